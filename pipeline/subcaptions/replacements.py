"""What replaces the pieces of a positive: a row's own draws from `term_pools`, and the original's capitals.

Part of `subcaptions`. A draw takes a band, then a term in it, and is drawn again where the term is excluded or the
caption already says it. This is the inner loop of the pipeline (a dozen draws per caption): plain integers and tuples.
"""

import hashlib
import struct
from collections.abc import Iterator
from itertools import chain, islice
from typing import Final

from pipeline.schema import Kind
from pipeline.subcaptions.likely import RARE, SHARES, Place
from pipeline.subcaptions.term_pools import LOWER, UPPER, Bands, Entry, Pool, case_of

_FREE_DRAWS: Final = 12
"""Draws before the remaining terms are walked through in order."""
_UNPACK: Final = struct.Struct("<42I").unpack
"""168 bytes: what one round of SHAKE-128 gives."""


def draw_numbers(seed: int, key: str) -> Iterator[int]:
    """An endless stream of 32-bit numbers that depends on the seed and the key alone."""
    return chain.from_iterable(_blocks(f"{seed}:{key}".encode("utf-8", "surrogatepass")))


def _blocks(text: bytes) -> Iterator[tuple[int, ...]]:
    block = 0
    while True:
        yield _UNPACK(hashlib.shake_128(b"%d:%s" % (block, text)).digest(168))
        block += 1


class Slot:
    """One piece of a positive that can be replaced."""

    __slots__ = (
        "alone",
        "bands",
        "before",
        "case",
        "end",
        "lexicon",
        "near",
        "original",
        "place",
        "plain",
        "pool",
        "share",
        "start",
        "stays",
        "tail",
    )

    def __init__(
        self,
        start: int,
        original: str,
        pool: Pool,
        *,
        near: int,
        place: Place | None,
        before: str = "",
        tail: str = "",
        share: float = 1.0,
        alone: bool = False,
    ) -> None:
        self.start = start
        """Where the original stands in the positive."""
        self.end = start + len(original)
        self.original = original
        self.pool = pool
        self.lexicon = pool.lexicon
        self.near = near
        """Terms that are like the original, as bits."""
        self.place = place
        """What is likely there; None for even draws, and where nothing is known of it."""
        self.share = share
        """How often plausible draws replace it, 0 to 1."""
        self.alone = alone
        """Whether plausible draws may replace it and leave the other nouns: what it says is then false, too."""
        self.stays = False
        """Whether plausible draws have nothing for it."""
        self.before = before
        """What stays before the term ("to " of an infinitive)."""
        self.tail = tail
        """What stays after it (" by" of a passive)."""
        if before or tail:
            self.bands, self.case = pool.around(original[len(before) : -len(tail) or None]), case_of(original)
            self.plain = False
            return
        self.bands, self.case = pool.place(original)
        """What is drawn from, and how the original is capitalised."""
        self.plain = self.case == LOWER
        """Whether a term stands there as it is."""

    def dress(self, word: str) -> str:
        """A term as it stands in this place: with what stays around it, and the original's capitals."""
        if self.before or self.tail:
            word = f"{self.before}{word}{self.tail}"
        if self.case == LOWER:
            return word
        return word.upper() if self.case == UPPER else _match_capitals(self.original, word)


class Plan:
    """The slots of one kind in a positive, and the text between them."""

    __slots__ = ("excluded", "kind", "parts", "positive", "rest", "slots", "used")

    def __init__(self, positive: str, kind: Kind, slots: list[Slot], excluded: int) -> None:
        self.positive = positive
        self.kind = kind
        self.slots = slots
        self.excluded = excluded
        """Terms that must not stand in any of them, as bits."""
        self.used: set[int] = set()
        """Terms that stood there in earlier negatives."""
        self.parts: list[tuple[str, Slot, Bands]] = []
        """For each slot: what stands before it, the slot, and what it draws from."""
        end = 0
        for slot in slots:
            self.parts.append((positive[end : slot.start], slot, slot.bands))
            end = slot.end
        self.rest = positive[end:]

    def only(self, slots: list[Slot]) -> "Plan":
        """The same plan for some of its slots."""
        return self if len(slots) == len(self.slots) else Plan(self.positive, self.kind, slots, self.excluded)

    def allows(self, entry: Entry, caption: str) -> bool:
        """Whether an entry may stand in a slot: not excluded, not used before, nothing the caption says."""
        row, word, term, _ = entry
        return not (
            self.excluded >> row & 1 or row in self.used or _says(caption, word) or _says(caption, term)
        )


def _says(caption: str, word: str) -> bool:
    """Whether a caption has a word or one that begins with it: "a woman" does not say "man"."""
    at = caption.find(word)
    while at > 0 and caption[at - 1].isalpha():
        at = caption.find(word, at + 1)
    return at >= 0


def offered(plans: list[Plan], numbers: Iterator[int]) -> list[Plan]:
    """The plans of a caption whose words are to be replaced, drawn by the shares of their slots.

    Of two nouns one may stay, where the other's share and its place allow; without any, the plan that is likeliest.
    """
    found = []
    for plan in plans:
        slots = [slot for slot in plan.slots if (next(numbers) & 1_023) < slot.share * 1_024]
        alone = [slot for slot in slots if slot.alone]
        if alone and len(slots) > 1 and next(numbers) & 7:
            slots = [alone[next(numbers) % len(alone)]]
        if slots and (len(slots) == len(plan.slots) or all(slot.alone for slot in slots)):
            found.append(plan.only(slots))
    if not found and plans:
        likeliest = max(reversed(plans), key=lambda plan: min(slot.share for slot in plan.slots))
        best = max(
            (slot for slot in likeliest.slots if slot.alone), key=lambda slot: slot.share, default=None
        )
        found.append(likeliest if best is None else likeliest.only([best]))
    return found


def reserve(plans: list[Plan]) -> list[Plan]:
    """What is replaced where nothing of what was offered can be: whatever does not have to stay."""
    return [plan.only(slots) for plan in plans if (slots := [slot for slot in plan.slots if not slot.stays])]


def draw(slot: Slot, plan: Plan, numbers: Iterator[int], caption: str, *, band: int) -> Entry | None:
    """An entry that fits the slot, from this band if the pool keeps bands; None where none is left.

    `caption`: lower case; no term it contains is drawn.
    """
    bands, keeps_band = slot.bands, slot.pool.keeps_band
    for _ in range(_FREE_DRAWS):
        number = next(numbers)
        entries, centre, width = bands[band if keeps_band else number % len(bands)]
        entry = entries[centre + (((number >> 8 & 4095) - (number >> 20)) * width >> 12)]
        if plan.allows(entry, caption):
            return entry
    return _walk(slot.pool.entries(), plan, numbers, caption)


def draw_likely(slot: Slot, plan: Plan, numbers: Iterator[int], caption: str) -> Entry | None:
    """As `draw`, from what captions have in such a place; from all terms where nothing is known of it."""
    place = slot.place
    if place is not None:
        share = next(numbers) & SHARES  # drawn once: else what is refused would end among the rare ones
        for draws in (share, share if share < RARE else RARE):
            for _ in range(_FREE_DRAWS):
                entry = place.draw(next(numbers) & ~SHARES | draws)
                if plan.allows(entry, caption):
                    return entry
        for entry in place.walk(next(numbers)):
            if plan.allows(entry, caption):
                return entry
        return None
    return draw(slot, plan, numbers, caption, band=next(numbers) % len(slot.bands))


def draw_near(slot: Slot, plan: Plan, numbers: Iterator[int], caption: str) -> Entry | None:
    """As `draw`, from the terms that are like the original."""
    return _walk(slot.pool.entries(slot.near & ~plan.excluded), plan, numbers, caption)


def _walk(entries: list[Entry], plan: Plan, numbers: Iterator[int], caption: str) -> Entry | None:
    """The first entry that fits, from a random one on."""
    first = next(numbers) % len(entries) if entries else 0
    for entry in chain(islice(entries, first, None), islice(entries, first)):
        if plan.allows(entry, caption):
            return entry
    return None


def _match_capitals(original: str, word: str) -> str:
    """`word` with the capitals of `original`: on every word where it has them on every word, else on the first."""
    if not original[:1].isupper():
        return word
    if all(part[:1].isupper() for part in original.split()):
        return " ".join(part[:1].upper() + part[1:] for part in word.split(" "))
    return word[:1].upper() + word[1:]
