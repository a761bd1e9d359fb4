"""Scene graphs -> sub-captions: one positive and several counterfactual negatives per caption, as traceable edits.

The stage after `scene_graphs`, before `shards` (CleanerCLIP, its section on sub-captions). `positives` says what is
there; a negative changes one kind of element of it: the adjectives, the relation, or the nouns. Everything is drawn
from (seed, key) alone.
"""

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from pipeline import schema
from pipeline.errors import UserError
from pipeline.lexicons.inflection import article
from pipeline.lexicons.loading import Lexicons
from pipeline.schema import Caption, Edit, Negative, SceneGraph, Subcaption
from pipeline.subcaptions.likely import likely_of
from pipeline.subcaptions.positives import Draft, draft_positive
from pipeline.subcaptions.replacements import (
    Plan,
    draw,
    draw_likely,
    draw_near,
    draw_numbers,
    offered,
    reserve,
)
from pipeline.subcaptions.views import make_views

Hardness = Literal["random", "near", "mixed"]
HARDNESSES: Final = ("random", "near", "mixed")
Draws = Literal["even", "plausible"]
DRAWS: Final = ("even", "plausible")
_MAX_REPEATS: Final = 20
"""Negatives that were there before, until a kind of element counts as used up."""
_ARTICLE: Final = re.compile(r"\b[Aa]n?\b ")
_ARTICLE_BEFORE: Final = re.compile(r"\b([Aa]n?) $")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubcaptionOptions:
    """How many sub-captions are made, and how."""

    num_negatives: int = field(default=10, metadata={"name": "negatives"})
    """Negatives per caption; as many as there are where fewer are possible."""
    num_views: int = field(default=4, metadata={"name": "views"})
    """Augmented captions (EDA) for CleanCLIP's text view."""
    draw: Draws = "even"
    """even: common and rare terms alike; plausible: as often as captions have a term in such a place."""
    hardness: Hardness = "random"
    """random: any term; near: co-hyponyms and antonyms first; mixed: half and half."""
    seed: int = 0
    """Same seed, same bytes."""

    def __post_init__(self) -> None:
        for name in ("num_negatives", "num_views"):
            if getattr(self, name) < 0:
                raise UserError(f"--{name.removeprefix('num_')} {getattr(self, name)}: give 0 or more")
        if self.hardness not in HARDNESSES:
            raise UserError(f"--hardness {self.hardness!r}: use one of {', '.join(HARDNESSES)}")
        if self.draw not in DRAWS:
            raise UserError(f"--draw {self.draw!r}: use one of {', '.join(DRAWS)}")


def make_subcaption(
    caption: Caption, graph: SceneGraph, lexicons: Lexicons, options: SubcaptionOptions
) -> Subcaption:
    """The positive, negatives and views of one caption; its status where it has none."""
    text = caption.caption
    views: tuple[str, ...] = ()
    if text and options.num_views:
        views = make_views(
            text, lexicons.synonyms, num_views=options.num_views, seed=options.seed, key=caption.key
        )
    positive, status = "", graph.status
    negatives: tuple[Negative, ...] = ()
    if status == schema.OK:
        likely = likely_of(lexicons) if options.draw == "plausible" else None
        drafted = draft_positive(text, graph, lexicons, near=options.hardness != "random", likely=likely)
        positive = drafted.positive
        negatives = _negatives(drafted, text.lower(), options, caption.key)
        if not negatives and likely is not None and options.num_negatives:
            # nothing likely fits: better an unlikely one than none
            even = dataclasses.replace(options, draw="even", num_negatives=1)
            negatives = _negatives(drafted, text.lower(), even, caption.key)
        if options.num_negatives and not negatives:
            status = schema.NO_NEGATIVE
    return Subcaption(
        key=caption.key, caption=text, positive=positive, negatives=negatives, views=views, status=status
    )


def _negatives(drafted: Draft, caption: str, options: SubcaptionOptions, key: str) -> tuple[Negative, ...]:
    """Up to `num_negatives` negatives, all different; each changes one kind of element, drawn among those possible.

    `caption`: lower case.
    """
    numbers = draw_numbers(options.seed, key)
    positive, plans = drafted.positive, drafted.plans
    negatives: list[Negative] = []
    seen = {positive}
    hardness, wanted = options.hardness, options.num_negatives
    articles = "a" in positive and _ARTICLE.search(positive) is not None
    near = hardness == "near"
    replace, repeats = (_replace, 0) if options.draw == "even" else (_replace_plausibly, 0)
    spare: list[Plan] = []
    if options.draw != "even":
        plans, spare = offered(plans, numbers), reserve(plans)
    while len(negatives) < wanted and (plans or (spare and not negatives)):
        if not plans:
            plans, spare = spare, []
        plan = plans[next(numbers) % len(plans)]
        if hardness == "mixed":
            near = next(numbers) % 2 == 0
        drawn = replace(plan, numbers, caption, near=near)
        if drawn is None:
            plans.remove(plan)
            continue
        text = drawn[0]
        if text in seen:
            repeats += 1
            if repeats % _MAX_REPEATS == 0 and options.draw != "even":
                plans.remove(plan)
            continue
        seen.add(text)
        negative = _tuple(Negative, (text, plan.kind, drawn[1]))
        negatives.append(_mend_articles(positive, negative) if articles else negative)
    return tuple(negatives)


def _replace(
    plan: Plan, numbers: Iterator[int], caption: str, *, near: bool
) -> tuple[str, tuple[Edit, ...]] | None:
    """The positive with every slot of a plan replaced, and the edits; None where a slot has no term left."""
    text = ""
    edits = []
    excluded, used = plan.excluded, plan.used
    for before, slot, bands in plan.parts:
        # The first draw nearly always fits; it stands here, and not in `draw`, for speed.
        number = next(numbers)
        band, centre, width = bands[number % len(bands)]
        entry = band[centre + (((number >> 8 & 4095) - (number >> 20)) * width >> 12)]
        row, word, term, term_id = entry
        if near or row in used or excluded >> row & 1 or word in caption or term in caption:
            found = draw_near(slot, plan, numbers, caption) if near and slot.near else None
            found = found or draw(slot, plan, numbers, caption, band=number % len(bands))
            if found is None:
                return None
            row, word, term, term_id = found
        used.add(row)  # no term serves twice in one caption's negatives of a kind
        if not slot.plain:
            word = slot.dress(word)
        text += before + word
        edits.append(_tuple(Edit, (slot.start, slot.end, slot.original, word, slot.lexicon, term_id)))
    return text + plan.rest, tuple(edits)


def _replace_plausibly(
    plan: Plan, numbers: Iterator[int], caption: str, *, near: bool
) -> tuple[str, tuple[Edit, ...]] | None:
    """As `_replace`, with terms that captions have in such places; one may serve again beside another."""
    text = ""
    edits = []
    chosen: list[int] = []
    for before, slot, _ in plan.parts:
        found = draw_near(slot, plan, numbers, caption) if near and slot.near else None
        found = found or draw_likely(slot, plan, numbers, caption)
        if found is None:
            return None
        row, word, _, term_id = found
        plan.used.add(row)
        chosen.append(row)
        if not slot.plain:
            word = slot.dress(word)
        text += before + word
        edits.append(_tuple(Edit, (slot.start, slot.end, slot.original, word, slot.lexicon, term_id)))
    if len(chosen) > 1:
        plan.used.difference_update(chosen)
    return text + plan.rest, tuple(edits)


_tuple: Final = tuple.__new__  # as a named tuple's own constructor does, without its call


def _mend_articles(positive: str, negative: Negative) -> Negative:
    """The negative with "a" and "an" before its replacements right, each change an edit of its own."""
    edits: list[Edit] = []
    for edit in negative.edits:
        found = _ARTICLE_BEFORE.search(positive, 0, edit.start)
        if found is not None:
            right = article(edit.replacement)
            right = right.capitalize() if found[1][0].isupper() else right
            if right != found[1]:
                start, end = found.span(1)
                edits.append(
                    Edit(start=start, end=end, original=found[1], replacement=right, lexicon="", term_id="")
                )
        edits.append(edit)
    return Negative(text=apply_edits(positive, tuple(edits)), kind=negative.kind, edits=tuple(edits))


def apply_edits(positive: str, edits: tuple[Edit, ...]) -> str:
    """`positive` with the edits made; they stand in order and do not overlap."""
    text, done = "", 0
    for edit in edits:
        text += positive[done : edit.start] + edit.replacement
        done = edit.end
    return text + positive[done:]
