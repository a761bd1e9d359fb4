"""Mistakes that parsers trained on news make in captions, mended in a tree before the rules read it.

Each function mends one kind, in place; the sentences beside them are what they are for, and their tests.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from pipeline.scene_graphs import words as known_words


class Words(Protocol):
    """What a tree is mended in: parallel lists over its words, as in `dependency_trees.Tree`."""

    words: Sequence[str]
    lemmas: Sequence[str]
    lowers: list[str]
    tags: list[str]
    labels: list[str]
    heads: list[int]


_MENDED: Final = frozenset(("MD", "VB", "VBP"))
_BESIDE: Final = ("compound", "nmod", "npadvmod", "advmod", "amod", "dep")
"""Labels of a subject that was taken for something that stands before its verb."""


def repair(tree: Words) -> None:
    """Mend what is wrong in a tree, in place."""
    for index, (tag, word) in enumerate(zip(tree.tags, tree.lowers, strict=True)):
        if tag in _MENDED or word == "live":
            mend_bare_verb(tree, index)
        if (
            word == "by"
            and 0 < index < len(tree.tags) - 1
            and tree.lowers[index - 1] == tree.lowers[index + 1]
        ):
            tree.tags[index - 1] = tree.tags[index + 1] = "RB"  # "sitting side by side": no thing
        if tag == "VBG":
            mend_gerund(tree, index)
        elif tag == "JJ" and tree.labels[index] == "ROOT" and is_named(tree, index):
            tree.tags[index] = "NN"
        elif tag[:2] == "NN" or tag == "JJ":
            mend_noun(tree, index)
        elif tag == "VBZ":
            mend_leaves(tree, index)
            mend_plural(tree, index)


# ---------------------------------------------------------------- verbs that are none
def mend_bare_verb(tree: Words, index: int) -> None:
    """Make a noun of what looks like an order or an infinitive.

    "toilet next to sink": the noun after "next to" is no infinitive. "lid on a stove": a bare verb that opens a
    caption without an object is no order, but a noun. "a trash can on a sidewalk": no auxiliary, but a can.
    "performs live on stage": the verb is the first.
    """
    tag = tree.tags[index]
    if tag == "MD" and index and tree.lowers[index] in ("can", "cans"):
        mend_can(tree, index)
    elif tree.lowers[index] == "live" and index and tag.startswith("VB"):
        mend_live(tree, index)
    elif tag not in ("VB", "VBP"):
        return
    if index >= 2 and tree.lowers[index - 1] == "to" and tree.lowers[index - 2] in ("next", "close"):
        tree.tags[index], tree.labels[index], tree.heads[index] = "NN", "pobj", index - 1
        tree.labels[index - 1], tree.heads[index - 1] = "prep", index - 2
    elif (
        index == 0
        and tree.labels[0] == "ROOT"
        and tree.labels[1:2] not in (["dobj"], ["prt"])
        and "dobj" not in tree.labels
    ):
        tree.tags[0] = "NN"


def mend_can(tree: Words, can: int) -> None:
    """Make a "can" that stands behind what it holds the noun that it is, in the place that its content has."""
    content = can - 1
    first, second = [*tree.tags[can + 1 : can + 3], "", ""][:2]
    is_auxiliary = first == "VB" or (first == "RB" and second == "VB")
    if is_auxiliary or tree.lowers[content] not in known_words.CAN_CONTENTS:
        return
    if tree.heads[content] != can:
        top = content
        while tree.heads[top] not in (top, can):
            top = tree.heads[top]
        if tree.heads[top] == can:  # its content stood below it: what stood between takes its place
            tree.heads[top] = tree.heads[can] if tree.heads[can] != can else top
            tree.labels[top] = tree.labels[can]
        tree.heads[can] = can if tree.heads[content] == content else tree.heads[content]
        tree.labels[can] = tree.labels[content]
    for index, head in enumerate(tree.heads):
        if head == content and index not in (content, can):
            tree.heads[index] = can
    tree.heads[content], tree.labels[content], tree.tags[can] = can, "compound", "NN"
    behind = can + 1
    if (
        first in ("IN", "TO", "RB", "JJ") and tree.heads[behind] == behind
    ):  # "trash can next to sofa" with the root "next"
        top = can
        while tree.heads[top] not in (top, behind):
            top = tree.heads[top]
        tree.heads[top], tree.labels[top] = top, "ROOT"
        tree.heads[behind], tree.labels[behind] = can, "prep" if first in ("IN", "TO") else "advmod"


def mend_live(tree: Words, live: int) -> None:
    """Make a "live" whose subject is a verb the adverb that it is: the verb takes its place."""
    verb = live - 1
    if tree.heads[verb] != live or tree.tags[verb] not in ("VBZ", "VBP", "VBD"):
        return
    head = tree.heads[live]
    tree.heads[verb] = verb if head == live else head
    tree.labels[verb], tree.tags[live] = tree.labels[live], "RB"
    for index, other in enumerate(tree.heads):
        if other == live:
            tree.heads[index] = verb
    tree.heads[live], tree.labels[live] = verb, "advmod"


def mend_leaves(tree: Words, leaves: int) -> None:
    """ "bean leaves on a plate": no plant goes away."""
    plant = leaves - 1
    if (
        plant < 0
        or tree.lowers[leaves] != "leaves"
        or tree.lemmas[plant] not in known_words.LEAFY_PLANTS
        or tree.heads[plant] != leaves
    ):
        return
    tree.tags[leaves], tree.labels[plant] = "NNS", "compound"
    for index in range(leaves + 1, len(tree.heads)):
        if tree.heads[index] == leaves and tree.labels[index] == "dobj":
            tree.labels[index] = "appos"


def mend_plural(tree: Words, index: int) -> None:
    """ "a dancer poses" is a verb, "chocolate cookies in a jar" is none."""
    before = index - 1
    if before < 0 or tree.labels[before] != "compound" or tree.heads[before] != index:
        return
    left = [each for each in range(before) if tree.heads[each] == index]
    if any(tree.labels[each] in ("nsubj", "aux", "expl") for each in left):
        return
    is_one = any(tree.lowers[each] in ("a", "an") for each in left)
    if is_one or tree.lemmas[before] in known_words.PEOPLE_AND_ANIMALS:
        take(
            tree,
            [each for each in left if tree.labels[each] in ("det", "amod", "compound", "nummod")],
            before,
        )
        tree.labels[before] = "nsubj"
    elif tree.labels[index] == "ROOT":
        tree.tags[index] = "NNS"


# ---------------------------------------------------------------- nouns
def mend_noun(tree: Words, index: int) -> None:
    """ "a hot dog", "a stop sign": one thing. "the front wheel": a part of a whole. "a bus travels": a verb."""
    word, before = tree.lowers[index], tree.lowers[index - 1] if index else ""
    if (
        f"{before} {word}" in known_words.ONE_THING
        or f"{before} {tree.lemmas[index]}" in known_words.ONE_THING
    ):
        join(tree, index - 1, index)
    elif before in known_words.SIDES and tree.heads[index - 1] == index and tree.labels[index - 1] == "amod":
        tree.labels[index - 1], tree.tags[index - 1] = "compound", "NN"
    elif tree.tags[index] == "NNS":
        mend_third_person(tree, index)
    if tree.labels[index] == "ROOT" and tree.tags[index] == "NN" and word.islower():
        mend_walk(tree, index)
    if tree.labels[index] == "compound" and tree.words[index] == word:
        mend_adjective(tree, index)
    if before in ("and", "or") and tree.labels[index] == "conj":
        mend_coordination(tree, index)


def join(tree: Words, first: int, noun: int) -> None:
    """Make a word part of the noun behind it, whatever stood between them."""
    head = tree.heads[noun]
    if head == first:  # "stop" was the verb, or "teddy" the noun that "bear" is coordinated to
        above = tree.heads[first]
        tree.heads[noun], tree.labels[noun] = noun if above == first else above, tree.labels[first]
    elif tree.heads[first] == head and tree.labels[noun] == "conj":
        tree.labels[noun] = tree.labels[first]
    for index, other in enumerate(tree.heads):
        if other == first and index != first:
            tree.heads[index] = noun
    tree.heads[first], tree.labels[first], tree.tags[first], tree.tags[noun] = (
        noun, "compound", "NN", tree.tags[noun] if tree.tags[noun][:2] == "NN" else "NN",
    )  # fmt: skip
    if tree.heads[noun] == first:
        tree.heads[noun] = noun


def mend_adjective(tree: Words, index: int) -> None:
    """ "hazy sky", "white tee shirt": no names, but what the noun is like."""
    word, noun = tree.lowers[index], tree.heads[index]
    if word not in known_words.COLOURS and not (
        word in known_words.ADJECTIVES and tree.tags[index] in ("NNP", "NN")
    ):
        return
    while tree.labels[noun] == "compound" and tree.heads[noun] > noun:
        noun = tree.heads[noun]
    tree.labels[index], tree.heads[index] = "amod", noun
    tree.tags[index] = "JJ"


def mend_walk(tree: Words, verb: int) -> None:
    """ "the bride and groom walk to the garden": what has a subject is a verb."""
    if any(head == verb and tree.labels[index] == "nsubj" for index, head in enumerate(tree.heads[:verb])):
        tree.tags[verb] = "VBP"


def mend_third_person(tree: Words, verb: int) -> None:
    """ "a yellow bus travels through snow": no plural has "a" before it."""
    subject = verb - 1
    if subject < 1 or tree.heads[subject] != verb or tree.labels[subject] != "compound":
        return
    left = [index for index in range(subject) if tree.heads[index] == verb]
    if not any(tree.lowers[index] in ("a", "an") and tree.labels[index] == "det" for index in left):
        return
    if not any(
        tree.heads[index] == verb and tree.labels[index] in ("prep", "dobj", "advmod", "prt", "appos")
        for index in range(verb + 1, len(tree.heads))
    ):
        return
    tree.tags[verb] = "VBZ"
    take(tree, left, subject)
    tree.labels[subject] = "nsubj"


def mend_coordination(tree: Words, noun: int) -> None:
    """ "wearing a shirt and shoes": the shoes are worn, and do not wear."""
    verb = tree.heads[noun]
    if tree.tags[verb][:2] != "VB" or tree.labels[noun] != "conj":
        return
    objects = [
        index for index in range(verb + 1, noun) if tree.heads[index] == verb and tree.labels[index] == "dobj"
    ]
    if objects and not any(
        tree.heads[index] == noun and tree.labels[index] == "dobj" for index in range(len(tree.heads))
    ):
        tree.heads[noun] = objects[-1]


# ---------------------------------------------------------------- participles
def is_named(tree: Words, index: int) -> bool:
    """ "a seagull standing on the sand": what has an article and does something is a noun."""
    return (
        index > 0
        and tree.heads[index - 1] == index
        and tree.labels[index - 1] == "det"
        and tree.tags[index + 1 : index + 2] == ["VBG"]
        and tree.labels[index + 1] == "acl"
    )


def mend_gerund(tree: Words, index: int) -> None:
    """ "a drawing on a door", "a kitten standing there", "on a phone sitting down", "in a room holding cups"."""
    label, before = tree.labels[index], index - 1
    if label == "ROOT" and tree.lowers[index] in known_words.THINGS_IN_ING and no_object(tree, index):
        if index == 0 or tree.labels[before] in ("amod", "det", "compound", "nummod"):
            tree.tags[index] = "NN"
        return
    if before < 0 or tree.tags[before][:2] != "NN" or tree.lemmas[index] not in known_words.BODILY_VERBS:
        return
    if label == "pcomp" and tree.heads[before] == index and tree.labels[before] == "nsubj":
        swap_in(tree, before, index)  # "for the camera standing there"
        tree.labels[before] = "pobj"
        tree.heads[index], tree.labels[index] = before, "acl"
    elif label == "ROOT" and tree.heads[before] == index and tree.labels[before] in _BESIDE:
        if tree.lemmas[before] in known_words.PEOPLE_AND_ANIMALS:
            tree.labels[before] = "nsubj"
            take(tree, [each for each in range(before) if tree.heads[each] == index], before)
    elif label in ("pobj", "dobj") and tree.heads[before] == index and tree.labels[before] == "compound":
        take(tree, [each for each in range(before) if tree.heads[each] == index], before)
        swap_in(tree, before, index)
        tree.heads[index], tree.labels[index] = before, "acl"
    elif label == "amod" and tree.heads[before] == index and tree.labels[before] in ("npadvmod", "compound"):
        noun = tree.heads[index]
        if noun < index or tree.labels[noun] not in ("pobj", "dobj"):
            return
        take(tree, [each for each in range(before) if tree.heads[each] in (noun, index)], before)
        swap_in(tree, before, noun)
        tree.heads[index], tree.labels[index] = before, "acl"
        tree.heads[noun], tree.labels[noun] = index, "dobj"


def no_object(tree: Words, verb: int) -> bool:
    """Whether a verb has neither subject nor object."""
    return not any(
        head == verb and tree.labels[index] in ("dobj", "nsubj", "aux", "prt")
        for index, head in enumerate(tree.heads)
    )


def take(tree: Words, words: list[int], noun: int) -> None:
    """Hang some words below a noun."""
    for index in words:
        if index != noun:
            tree.heads[index] = noun


def swap_in(tree: Words, noun: int, other: int) -> None:
    """Give a noun the place of another word."""
    tree.heads[noun], tree.labels[noun] = tree.heads[other], tree.labels[other]
