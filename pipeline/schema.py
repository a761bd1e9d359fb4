"""The data that flows through the pipeline: frozen records, their Arrow schemas, and the status words.

Every column name that is ever written stands here; `docs/format.md` explains them to users. A stage adds its
own folder, keyed by `key`, and never rewrites an earlier one: captions -> scene_graphs -> subcaptions -> shards.
"""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

SCHEMA_VERSION: Final = 1

# ---------------------------------------------------------------- status words: a row is kept, whatever its status
OK: Final = "ok"
"""The row went through this stage."""
NO_CAPTION: Final = "no_caption"
"""The input has no caption for this key, or an empty one."""
NO_LETTERS: Final = "no_letters"
"""The caption has no letter: punctuation, digits or emoji alone."""
NOT_ENGLISH: Final = "not_english"
"""Of a script other than Latin, or French, German, Portuguese, Spanish or Italian: parser and lexicons are English."""
TOO_LONG: Final = "too_long"
"""More than MAX_CAPTION_CHARACTERS: a page of text, no caption."""
NO_ENTITY: Final = "no_entity"
"""Parsed, but no noun was found."""
NO_NEGATIVE: Final = "no_negative"
"""A positive exists, but no lexicon term may replace any of its words."""
GRAPH_STATUSES: Final = (OK, NO_CAPTION, NO_LETTERS, NOT_ENGLISH, TOO_LONG, NO_ENTITY)

MAX_CAPTION_CHARACTERS: Final = 2_000

Kind = Literal["attribute", "relation", "object"]
"""What a negative changes. Each kind is replaced from the lexicon of that kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """One caption of the input: a row of `captions/`."""

    key: str
    """Unique; the input's own key where it has one."""
    caption: str
    """As given, with every run of white space as one space and none at the ends; "" where there is none."""
    image: str | None
    """Where the image is: a tar member, a path, or a URL; None where the input names no image."""
    source: str
    """The input file the row came from, as it was given."""


class Attribute(NamedTuple):
    """A modifier of an entity: "black", "wooden".

    A named tuple, as entities, relations, edits and negatives are: dozens are made per caption, and a frozen dataclass
    takes eight times as long. Columns in `tables.py` have the order of the fields.
    """

    text: str
    lemma: str
    tag: str
    """Penn Treebank tag."""
    start: int
    """First character in the caption; `caption[start:end] == text`."""
    end: int


class Entity(NamedTuple):
    """A thing the caption names: the head of a noun chunk, with its compound ("stop sign") and its attributes."""

    head: str
    """The noun with its compounds as written; `caption[start:end] == head` where they stand together."""
    lemma: str
    """Lower-case lemma of `head`: "stop sign", "dog"."""
    tag: str
    """Penn Treebank tag of the noun: NN, NNS, NNP, NNPS."""
    start: int
    end: int
    attributes: tuple[Attribute, ...] = ()


class Relation(NamedTuple):
    """`entities[subject]` text `entities[object]`: "dog" "chasing" "ball"."""

    subject: int
    """Index into the graph's entities."""
    object: int
    text: str
    """As written, verb and preposition together ("standing next to")."""
    lemma: str
    tag: str
    """Penn tag of the first word: VBG, VBZ, VBN, ... or IN for a bare preposition."""
    start: int
    """First character of the first word in the caption."""
    end: int
    """After the last word; words of other elements may stand between."""
    rule: str
    """The rule that made it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneGraph:
    """What a caption says is in the image."""

    entities: tuple[Entity, ...] = ()
    relations: tuple[Relation, ...] = ()
    status: str = OK


class Edit(NamedTuple):
    """One replacement: `positive[start:end] == original` became `replacement`."""

    start: int
    end: int
    original: str
    replacement: str
    lexicon: str
    """objects, attributes or relations."""
    term_id: str
    """The lexicon row the replacement comes from; "" for an edit that only keeps the grammar (a -> an)."""


class Negative(NamedTuple):
    """A counterfactual caption: the positive with exactly one kind of element changed."""

    text: str
    kind: Kind
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subcaption:
    """What the pipeline makes of one caption: a row of `subcaptions/`."""

    key: str
    caption: str
    positive: str
    """"" where the status is not ok or no_negative."""
    negatives: tuple[Negative, ...]
    views: tuple[str, ...]
    """The caption after easy data augmentation (EDA), for CleanCLIP's text view."""
    status: str
