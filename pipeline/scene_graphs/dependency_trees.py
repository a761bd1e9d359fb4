"""A parsed caption without spaCy: what the rules of `rules.py` read, between the parser and the graph.

Plain lists, so that a rule can be tried on a tree written by hand.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.scene_graphs import words as known_words
from pipeline.scene_graphs.repairs import repair


@dataclass(slots=True, kw_only=True)
class Tree:
    """A parsed sentence: parallel lists over its words."""

    text: str
    words: Sequence[str]
    lemmas: Sequence[str]
    tags: list[str]
    """Penn Treebank tags."""
    labels: list[str]
    """ClearNLP dependency labels."""
    heads: list[int]
    """Index of each word's head; the root's is its own."""
    starts: Sequence[int]
    """First character of each word in `text`."""
    lowers: list[str] = field(init=False)
    children: list[list[int]] = field(init=False)
    nouns_at: list[bool] = field(init=False)
    """Whether each word is a noun."""
    passed_through: dict[int, int] = field(init=False, default_factory=dict)
    """Nouns that stand for another: a measure or a scene word -> the noun after its "of"."""
    places: set[int] = field(init=False, default_factory=set)
    """Nouns that are part of a relation: "front" of "in front of"."""

    def __post_init__(self) -> None:
        """Derive what every rule asks for."""
        self.lowers = [word.lower() for word in self.words]
        self.children = [[] for _ in self.words]
        repair(self)
        self.nouns_at = [
            tag[:2] == "NN"
            and word not in known_words.INDEFINITE_PRONOUNS
            and (word.isalpha() or any(character.isalpha() for character in word))
            for tag, word in zip(self.tags, self.lowers, strict=True)
        ]
        for index, head in enumerate(self.heads):
            if head != index:
                self.children[head].append(index)
        for index, label in enumerate(self.labels):
            if label == "pobj":
                self._mark(index)

    def _mark(self, index: int) -> None:
        """Note a place noun or a noun that stands for the object of its "of"."""
        preposition = self.heads[index]
        noun = self.heads[preposition]
        if (
            self.lowers[preposition] == "of"
            and self.lowers[noun] == "up"
            and self.lowers[self.heads[noun]] == "close"
        ):
            self.passed_through[self.heads[noun]] = index  # "close up of"
        elif (
            self.lowers[preposition] == "of" and noun and self.lowers[noun - 1 : noun + 1] == ["close", "up"]
        ):
            self.passed_through[noun - 1] = index  # the same, with "up" as its head
        if self.labels[preposition] != "prep" or noun >= preposition:
            return
        if not self.is_noun(noun):
            if (
                self.lowers[preposition] == "of"
                and self.lowers[noun] in known_words.SHARES
                and self.is_noun(index)
            ):
                self.passed_through[noun] = index
            return
        word = self.lowers[noun]
        if (
            word in known_words.PLACE_NOUNS
            and self.labels[noun] == "pobj"
            and self.lowers[preposition] in known_words.PLACE_PREPOSITIONS
        ):
            self.places.add(noun)
        elif (
            self.lowers[preposition] == "of"
            and self.is_noun(index)
            and (
                (word in known_words.MEASURE_NOUNS and self.lowers[self.heads[noun]] != "as")  # "as part of"
                # "a room with views of the sea" has the views, "a photo of a dog" has the dog
                or (
                    word in known_words.SCENE_NOUNS
                    and self.labels[noun] != "pobj"
                    and not (
                        self.labels[noun] == "dobj" and self.lemmas[self.heads[noun]] in ("take", "make")
                    )
                )
            )
        ):
            self.passed_through[noun] = index

    def is_noun(self, index: int) -> bool:
        """Whether a word is a noun, a pronoun never."""
        return self.nouns_at[index]

    def is_verb(self, index: int) -> bool:
        """Whether a word is a verb, by its tag."""
        return self.tags[index].startswith("VB")

    def having(self, index: int, *labels: str) -> list[int]:
        """The children of a word with one of these labels, left to right."""
        children = self.children[index]
        return [child for child in children if self.labels[child] in labels] if children else children

    def conjuncts(self, index: int) -> Iterator[int]:
        """A word and everything coordinated to it."""
        yield index
        for child in self.having(index, "conj"):
            yield from self.conjuncts(child)

    def nouns(self, index: int) -> list[int]:
        """The entity nouns a word stands for: resolved, with its conjuncts."""
        found = []
        for each in self.conjuncts(index):
            if each in self.passed_through:
                found += self.nouns(self.passed_through[each])
            elif self.is_noun(each) and each not in self.places:
                found.append(each)
        return found
