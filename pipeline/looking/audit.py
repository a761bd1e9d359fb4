"""How far language alone tells negatives from positives: a blind test of `subcaptions/`, without an image.

A negative that nobody needs to look for teaches an image encoder nothing (SugarCrepe, 2023). Two classifiers read
positives and negatives of some captions and guess those of others: one sees words and pairs of words, one sees form
alone. Areas under the ROC curve: 0.5 is chance, 1 is a give-away. scikit-learn is imported here and nowhere else.
"""

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from pipeline.errors import UserError
from pipeline.schema import Kind
from pipeline.storage import read_table

try:
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer  # noqa: TID251
    from sklearn.linear_model import LogisticRegression  # noqa: TID251
    from sklearn.metrics import roc_auc_score  # noqa: TID251
    from sklearn.preprocessing import StandardScaler  # noqa: TID251
except ImportError as error:
    raise UserError("audit-negatives needs scikit-learn: pip install 'cleanerclip[audit]'") from error

ALL: Final = "all"
KINDS: Final = (ALL, *get_args(Kind))
MIN_PAIRS: Final = 20
"""With fewer captions of a kind on either side there is no figure."""
FUNCTION_WORDS: Final = re.findall(
    r"\w+",
    "a an the and or on in at of with by for to from over under behind near next front top into onto through across"
    " around past toward between against above below beneath beside inside outside off up down along is are has have"
    " his her their its as out away left right side without amid atop upon opposite beyond throughout underneath within"
    " back ahead low be being been was were it this that these those not no",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOptions:
    """What `pipeline audit-negatives` is told."""

    tried_on: Path | None = None
    """Another output folder, to try on what was learnt from FOLDER. Default: the half that was not learnt from."""
    captions: int = 16_000
    """Captions of a folder to read at most, drawn by seed."""
    seed: int = 0
    """Which captions are drawn, and which half is learnt from."""

    def __post_init__(self) -> None:
        if self.captions < 2 * MIN_PAIRS:
            raise UserError(f"--captions {self.captions}: give {2 * MIN_PAIRS} or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A positive and one of its negatives."""

    positive: str
    negative: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Blindness:
    """What language alone tells of the negatives of one kind."""

    kind: str
    """attribute, relation, object, or all: the first negative of each caption."""
    learnt: int
    """Captions that were learnt from."""
    tried: int
    """Captions that were tried."""
    words: float | None
    """Area under the curve by words and pairs of words, learnt from all kinds; None for too few captions."""
    kind_alone: float | None
    """The same, learnt from negatives of this kind alone: the sharper eye, where a user would keep one kind."""
    form: float | None
    """The same by form alone: function words, length, hyphens, capitals, punctuation, spacing."""


def audit(folder: Path, options: AuditOptions) -> list[Blindness]:
    """The blind test of an output folder's negatives, over all and for each kind."""
    rows = read_rows(folder, num=options.captions, seed=options.seed)
    if options.tried_on is None:
        return blind_test(rows[: len(rows) // 2], rows[len(rows) // 2 :])
    return blind_test(rows, read_rows(options.tried_on, num=options.captions, seed=options.seed))


def read_rows(folder: Path, *, num: int, seed: int) -> list[list[Pair]]:
    """The pairs of `num` captions of a folder, each text once, in an order that the seed decides."""
    parts = sorted((folder / "subcaptions").glob("*.parquet"))
    if not parts:
        raise UserError(f"{folder} holds no subcaptions: run `pipeline augment-captions` first")
    rows: dict[str, list[Pair]] = {}
    for part in parts:
        for row in read_table(part).select(["caption", "positive", "negatives"]).to_pylist():
            if row["negatives"]:
                rows.setdefault(row["caption"].lower(), list(_pairs(row)))
    captions = sorted(rows)
    random.Random(f"{seed}:audit").shuffle(captions)
    return [rows[caption] for caption in captions[:num]]


def _pairs(row: dict[str, Any]) -> Iterator[Pair]:
    for negative in row["negatives"]:
        yield Pair(positive=row["positive"], negative=negative["text"], kind=negative["kind"])


def blind_test(learnt: Sequence[Sequence[Pair]], tried: Sequence[Sequence[Pair]]) -> list[Blindness]:
    """What two classifiers that read the pairs of some captions make of those of others, over all and by kind.

    A caption gives one negative of a kind, its first, so that positives and negatives are as many.
    """
    pairs = {kind: (_of_kind(learnt, kind), _of_kind(tried, kind)) for kind in KINDS}
    enough = {kind: min(map(len, both)) >= MIN_PAIRS for kind, both in pairs.items()}
    tested = [kind for kind in KINDS if enough[kind]] if enough[ALL] else []
    words = dict(zip(tested, areas_by_words(pairs[ALL][0], [pairs[kind][1] for kind in tested]), strict=True))
    return [
        Blindness(
            kind=kind,
            learnt=len(first),
            tried=len(second),
            words=words.get(kind),
            kind_alone=areas_by_words(first, [second])[0] if enough[kind] else None,
            form=area_by_form(first, second) if enough[kind] else None,
        )
        for kind, (first, second) in pairs.items()
    ]


def _of_kind(rows: Iterable[Sequence[Pair]], kind: str) -> list[Pair]:
    chosen = (next((pair for pair in pairs if kind in (ALL, pair.kind)), None) for pairs in rows)
    return [pair for pair in chosen if pair is not None]


def areas_by_words(learnt: Sequence[Pair], tried: Sequence[Sequence[Pair]]) -> list[float]:
    """Areas under the ROC curve of one logistic regression over the words and the pairs of neighbours that occur."""
    words = CountVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", binary=True)
    return _areas(words.fit_transform(_texts(learnt)), [words.transform(_texts(pairs)) for pairs in tried])


def area_by_form(learnt: Sequence[Pair], tried: Sequence[Pair]) -> float:
    """The same over function words, length, hyphens, capitals, punctuation and spacing."""
    scale = StandardScaler()
    return _areas(scale.fit_transform(_form(_texts(learnt))), [scale.transform(_form(_texts(tried)))])[0]


def _texts(pairs: Iterable[Pair]) -> list[str]:
    """Positives and negatives in turn."""
    return [text for pair in pairs for text in (pair.positive, pair.negative)]


def _areas(learnt: Any, tried: Iterable[Any]) -> list[float]:
    """Rows are positives and negatives in turn."""
    if not (tried := list(tried)):
        return []
    classifier = LogisticRegression(max_iter=2_000).fit(learnt, np.arange(learnt.shape[0]) % 2)
    return [
        float(roc_auc_score(np.arange(rows.shape[0]) % 2, classifier.decision_function(rows)))
        for rows in tried
    ]


def _form(texts: Iterable[str]) -> Any:
    rows = []
    for text in texts:
        words = text.lower().split(" ")
        form = [len(text), len(words), len(text) / len(words), max(map(len, words)), text.count("-")]
        form += [sum(map(str.isupper, text)), text[:1].isupper(), text.count("  ")]
        form.append(sum(not character.isalnum() and character not in " -" for character in text))
        rows.append([words.count(word) / len(words) for word in FUNCTION_WORDS] + form)
    return np.array(rows, float)
