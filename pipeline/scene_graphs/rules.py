"""Dependency tree -> relations: the default rules, as a table of named rules whose examples are the tests.

The rules start from what SceneGraphParser does (rules "sng") and repair it; each rule is called for the words whose
dependency label is among its triggers, and gives (subject nouns, words, object). Nouns are resolved by the tree: "a
group of people" to people, "a photo of a dog" to the dog, a coordination to each of its members. `building.py`
makes the records.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from pipeline.scene_graphs import words as known_words
from pipeline.scene_graphs.dependency_trees import Tree


class Found(NamedTuple):
    """What a rule found: words by index, the object possibly a coordination."""

    subjects: list[int]
    words: list[int]
    object: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One named rule: which dependency labels call it, what it finds, and examples that are its tests."""

    name: str
    triggers: tuple[str, ...]
    find: Callable[[Tree, int], Iterator[Found]]
    repairs: str
    """What SceneGraphParser does instead."""
    examples: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...]
    """(caption, relations as (subject, text, object)) that must be in the caption's graph."""
    counterexamples: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = ()
    """(caption, all its relations): what looks like the rule's case and is none."""
    lemma: str | None = None
    """What its words mean, where that is not their own lemmas: "'s" means "have"."""
    has_object: bool = False
    """Whether the object is the verb's own, so that another verb alone replaces the words: no preposition leads on."""
    subject_after: str | None = None
    """The word by which a sentence names the subject behind the object: "a horse ridden by a man"."""


# ---------------------------------------------------------------- who does it
def subjects_of(tree: Tree, verb: int, depth: int = 0) -> list[int]:
    """The nouns that a verb says something about, [] where the caption does not name them, or denies the verb.

    Its own subject; for "there is" the noun it introduces; for a participle or a relative clause the noun it
    stands behind; for a coordinated, infinitive or adverbial verb the subject of the verb it depends on.
    """
    if depth > 8 or is_denied(tree, verb):
        return []
    for child in tree.having(verb, "nsubj", "nsubjpass"):
        if tree.lowers[child] in known_words.RELATIVE_PRONOUNS and tree.labels[verb] == "relcl":
            return tree.nouns(tree.heads[verb])
        return tree.nouns(child)
    for auxiliary in tree.having(verb, "aux"):
        for child in tree.having(auxiliary, "nsubj"):  # "a boat sits docked", with "sits" as an auxiliary
            return tree.nouns(child)
    if tree.having(verb, "expl"):
        return [noun for child in tree.having(verb, "attr", "dobj") for noun in tree.nouns(child)]
    return inherited_subjects(tree, verb, depth)


def is_denied(tree: Tree, verb: int) -> bool:
    """Whether the caption says that something is not done: "is not wearing a hat", "without using his hands"."""
    head = tree.heads[verb]
    return bool(tree.having(verb, "neg")) or (tree.labels[verb] == "pcomp" and tree.lowers[head] == "without")


def inherited_subjects(tree: Tree, verb: int, depth: int) -> list[int]:
    """The subject a verb without one of its own has from its head."""
    head, label = tree.heads[verb], tree.labels[verb]
    if head == verb:
        return []
    if tree.labels[head] == "prep" and label == "pcomp":
        head = tree.heads[head]
    if tree.is_noun(head):
        if label == "acl" and tree.tags[verb] == "VBG":
            while tree.labels[head] == "conj" and tree.is_noun(tree.heads[head]):
                head = tree.heads[head]
        if label == "acl" and tree.lemmas[verb] in known_words.BODILY_VERBS:
            return movers_before(tree, head, depth) or tree.nouns(head)
        return tree.nouns(head) if label in ("acl", "relcl", "amod", "advcl", "pcomp", "conj") else []
    if label in ("conj", "xcomp", "advcl", "acl", "pcomp", "dep", "ccomp", "acomp"):
        if (
            label == "xcomp"
            and (objects := tree.having(head, "dobj"))
            and tree.lemmas[head] in ("see", "watch")
        ):
            return tree.nouns(objects[0])
        return subjects_of(tree, head, depth + 1)
    return []


def movers_before(tree: Tree, noun: int, depth: int) -> list[int]:
    """The people or animals who do what stands behind a thing: "a man at a table standing near a wall"."""
    while not is_mover(tree, noun):
        above = tree.heads[noun]
        if tree.labels[noun] == "pobj":
            above = tree.heads[above]
        elif tree.labels[noun] != "dobj":
            return []
        if tree.is_verb(above):
            return [each for each in subjects_of(tree, above, depth + 1) if is_mover(tree, each)]
        if not tree.is_noun(above) or above >= noun:
            return []
        noun = above
    return tree.nouns(noun)


def is_mover(tree: Tree, noun: int) -> bool:
    """Whether a noun names people or animals, itself or in what it stands for."""
    return any(tree.lemmas[each] in known_words.PEOPLE_AND_ANIMALS for each in (noun, *tree.nouns(noun)))


def verb_words(tree: Tree, verb: int) -> list[int]:
    """A verb with its particle, and the verb before it where that only leads to it ("trying to catch")."""
    words = [verb, *tree.having(verb, "prt")]
    to = [child for child in tree.having(verb, "aux") if tree.tags[child] == "TO" and child == verb - 1]
    if to:
        words.insert(0, to[0])
        leading = tree.heads[verb]
        if leading == to[0] - 1 and tree.is_verb(leading) and tree.labels[verb] in ("xcomp", "advcl"):
            words.insert(0, leading)
    return words


def is_copula(tree: Tree, verb: int) -> bool:
    """Whether a verb is a form of "be" that links, not an auxiliary."""
    return tree.lemmas[verb] == "be" and tree.is_verb(verb)


# ---------------------------------------------------------------- the rules
def find_object(tree: Tree, index: int) -> Iterator[Found]:
    """A verb's direct object."""
    verb = tree.heads[index]
    if tree.is_verb(verb) and not is_copula(tree, verb) and not tree.having(verb, "nsubjpass"):
        yield Found(subjects_of(tree, verb), verb_words(tree, verb), index)


def find_attribute_noun(tree: Tree, index: int) -> Iterator[Found]:
    """A noun after "is"."""
    verb = tree.heads[index]
    if is_copula(tree, verb) and not tree.having(verb, "expl"):
        yield Found(subjects_of(tree, verb), [verb], index)


def is_agent(tree: Tree, by: int) -> bool:
    """Whether a "by" names who does it: not after a noun, nor after a verb of place ("parked by a house")."""
    verb = tree.heads[by]
    return (
        tree.labels[by] == "agent" and tree.is_verb(verb) and tree.lemmas[verb] not in known_words.PLACE_VERBS
    )


def find_agent(tree: Tree, index: int) -> Iterator[Found]:
    """The doer of a passive verb: subject and object change places."""
    by = tree.heads[index]
    if not is_agent(tree, by):
        return
    verb = tree.heads[by]
    patients = subjects_of(tree, verb)
    for patient in patients:
        yield Found(tree.nouns(index), [verb], patient)


def find_preposition(tree: Tree, index: int) -> Iterator[Found]:
    """The object of a preposition, whatever the preposition depends on."""
    if index in tree.places or is_agent(tree, tree.heads[index]):
        return
    words, anchor = preposition_path(tree, index)
    if anchor is None:
        return
    if tree.labels[anchor] == "dobj" and tree.lowers[anchor] in known_words.INDEFINITE_PRONOUNS:
        # "celebrating something in a restaurant"
        yield Found(subjects_of(tree, tree.heads[anchor]), words, index)
        return
    if tree.lowers[words[0]] == "in" and tree.lemmas[index] in known_words.LIQUIDS:
        anchor = content_before(tree, index, anchor)
    if tree.is_noun(anchor):
        if is_of_the_picture(tree, anchor, words[0]):
            return
        if anchor not in tree.passed_through or tree.passed_through[anchor] != index:
            yield Found(
                tree.nouns(anchor)[:1] if tree.labels[anchor] == "conj" else tree.nouns(anchor), words, index
            )
    elif tree.is_verb(anchor):
        yield from find_verb_preposition(tree, index, words, anchor)


def content_before(tree: Tree, liquid: int, anchor: int) -> int:
    """What lies in a liquid: of "a bowl of noodles in sauce" the noodles, not the bowl."""
    for preposition in tree.having(anchor, "prep"):
        if tree.lowers[preposition] in ("of", "with") and preposition < tree.heads[liquid]:
            return next(iter(tree.having(preposition, "pobj")), anchor)
    return anchor


def is_of_the_picture(tree: Tree, noun: int, preposition: int) -> bool:
    """Whether a preposition says how a picture was taken, not where a thing is: "a view of a train from a bridge"."""
    word = tree.lowers[preposition]
    if noun in tree.passed_through:
        return tree.lowers[noun] in known_words.SCENE_NOUNS and word in ("from", "by", "with")
    scene = next((scene for scene, shown in tree.passed_through.items() if shown == noun), noun)
    return scene != noun and word == "from" and tree.lowers[scene] in known_words.SCENE_NOUNS


def find_verb_preposition(tree: Tree, index: int, words: list[int], verb: int) -> Iterator[Found]:
    """A preposition on a verb: with the verb where it has no object, else alone."""
    subjects = subjects_of(tree, verb)
    objects = [child for child in tree.having(verb, "dobj") if tree.nouns(child)]
    if is_copula(tree, verb):
        yield Found(subjects, words, index)
    elif objects and not tree.having(verb, "nsubjpass"):
        moved = tree.lowers[words[0]] in known_words.MOTION_PREPOSITIONS
        placed = tree.lemmas[verb] in known_words.PLACING_VERBS and tree.lowers[words[0]] != "with"
        held = tree.lowers[index] in known_words.BODY_PARTS and tree.lowers[words[0]] in (
            "in",
            "on",
            "over",
            "between",
        )
        yield Found(tree.nouns(objects[0]) if moved or placed or held else subjects, words, index)
    elif words[0] < verb or tree.having(verb, "acomp") or is_told_otherwise(tree, verb, words[0]):
        yield Found(subjects, words, index)  # "on the bed a dog sleeps", "a dog looking proud on a chair"
    else:
        # A particle may be the preposition itself: "walking down a street".
        yield Found(subjects, sorted({*verb_words(tree, verb), *words}), index)


def is_told_otherwise(tree: Tree, verb: int, preposition: int) -> bool:
    """Whether a participle has its own preposition before: "topped with fruit on a table" is not topped on it."""
    return tree.tags[verb] == "VBN" and any(
        tree.lowers[other] in ("with", "by")
        for other in tree.having(verb, "prep", "agent")
        if other < preposition
    )


def preposition_path(tree: Tree, index: int) -> tuple[list[int], int | None]:
    """The words of the preposition above a noun ("next to", "in front of", "out of") and what they depend on."""
    preposition = tree.heads[index]
    words = [preposition]
    anchor = tree.heads[preposition]
    for _ in range(6):
        label = tree.labels[anchor]
        if anchor in words:
            return words, None
        if tree.labels[words[0]] == "conj" and tree.tags[anchor] == "IN":
            words, anchor = [words[0]], tree.heads[anchor]
        elif anchor in tree.places:
            before = tree.heads[anchor]
            articles = [child for child in tree.having(anchor, "det") if child > before]
            words = [before, *articles, anchor, *words]
            anchor = tree.heads[before]
        elif (
            tree.tags[anchor] in ("IN", "TO", "RP") and label in ("prep", "pcomp", "advmod", "prt")
        ) or is_adjective_before(tree, anchor, words[0]):
            words = [anchor, *words]
            anchor = tree.heads[anchor]
        else:
            break
    return words, anchor


def is_adjective_before(tree: Tree, index: int, preposition: int) -> bool:
    """Whether a word is the adjective or adverb of "next to", "close to", "full of", right before the preposition."""
    return (
        tree.labels[index] in ("amod", "advmod", "acomp", "oprd")
        and not tree.is_verb(index)
        and index == preposition - 1
        and tree.heads[index] != index
        and (tree.heads[index] < index)
    )


def find_relative_object(tree: Tree, index: int) -> Iterator[Found]:
    """A relative clause whose subject is another noun: "shoes the woman is wearing"."""
    noun = tree.heads[index]
    subjects = [child for child in tree.having(index, "nsubj") if tree.is_noun(child)]
    if not tree.is_noun(noun) or not subjects or not tree.is_verb(index) or is_copula(tree, index):
        return
    if is_denied(tree, index):
        return
    objects = tree.having(index, "dobj")
    if objects and tree.lowers[objects[0]] not in known_words.RELATIVE_PRONOUNS:
        return
    dangling = [child for child in tree.having(index, "prep") if not tree.having(child, "pobj", "pcomp")]
    if not dangling and tree.having(index, "prep", "acomp", "ccomp"):
        return
    yield Found(tree.nouns(subjects[0]), verb_words(tree, index) + dangling[:1], noun)


def find_possessor(tree: Tree, index: int) -> Iterator[Found]:
    """A noun with 's before another noun."""
    marks = tree.having(index, "case")
    if marks and tree.is_noun(index):
        yield Found(tree.nouns(index), marks[:1], tree.heads[index])


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        name="verb_object", triggers=("dobj",), find=find_object, has_object=True,
        repairs="misses the second of two coordinated verbs, adverbial and infinitive verbs, and particles",
        examples=(
            ("a woman is playing the piano", (("woman", "playing", "piano"),)),
            ("a man standing and reading a book", (("man", "reading", "book"),)),
            ("a dog trying to catch a frisbee", (("dog", "trying to catch", "frisbee"),)),
            ("two men and a woman riding horses", (("men", "riding", "horses"), ("woman", "riding", "horses"))),
            ("a boy eating an apple and a banana", (("boy", "eating", "apple"), ("boy", "eating", "banana"))),
            ("a man who is riding a horse", (("man", "riding", "horse"),)),
            ("a boy holding a soda can", (("boy", "holding", "soda can"),)),
            ("boy wearing grey shirt and backpack", (("boy", "wearing", "shirt"), ("boy", "wearing", "backpack"))),
            ("a man on a soccer field dressed in a uniform kicking a ball", (("man", "kicking", "ball"),)),
        ),
        counterexamples=(
            ("a man who is not wearing a shirt", ()),
            ("a man eating pizza without using his hands", (("man", "eating", "pizza"),)),
            ("a woman with no shoes is riding a horse", (("woman", "riding", "horse"),)),
        ),
    ),
    Rule(
        name="copula", triggers=("attr",), find=find_attribute_noun, has_object=True,
        repairs="keeps this one as it is",
        examples=(("the woman is a pianist", (("woman", "is", "pianist"),)),),
    ),
    Rule(
        name="passive_agent", triggers=("pobj",), find=find_agent, subject_after="by",
        repairs="finds it only for a finite passive, not for a participle behind its noun",
        examples=(
            ("the piano is played by a woman", (("woman", "played", "piano"),)),
            ("a house surrounded by trees", (("trees", "surrounded", "house"),)),
            ("a dog chased by two cats", (("cats", "chased", "dog"),)),
        ),
    ),
    Rule(
        name="preposition", triggers=("pobj",), find=find_preposition,
        repairs="drops the verb of a verb with a preposition, and cuts phrasal prepositions off by one",
        examples=(
            ("a piano in the room", (("piano", "in", "room"),)),
            ("a woman standing next to a piano", (("woman", "standing next to", "piano"),)),
            ("a cat sitting on a chair", (("cat", "sitting on", "chair"),)),
            ("a car parked in front of a house", (("car", "parked in front of", "house"),)),
            ("a woman playing the piano in the room", (("woman", "playing", "piano"), ("woman", "in", "room"))),
            ("a group of people on a beach", (("people", "on", "beach"),)),
            ("a photo of a dog on a sofa", (("dog", "on", "sofa"),)),
            ("there is a dog on the bed", (("dog", "on", "bed"),)),
            ("the dog is on the bed", (("dog", "on", "bed"),)),
            ("a street full of cars", (("street", "full of", "cars"),)),
            ("a man throwing a ball to a dog", (("man", "throwing", "ball"), ("ball", "to", "dog"))),
            ("a plate covered with food", (("plate", "covered with", "food"),)),
            ("a car parked by a house", (("car", "parked by", "house"),)),
            ("a girl holding a feather in her hands", (("girl", "holding", "feather"), ("feather", "in", "hands"))),
            ("a sign on the side of the road", (("sign", "on the side of", "road"),)),
            ("a toilet next to sink", (("toilet", "next to", "sink"),)),
            ("a picture of a cat on a mat", (("cat", "on", "mat"),)),
            ("a bunch of bananas on a table", (("bananas", "on", "table"),)),
            ("a pair of shoes under the bed", (("shoes", "under", "bed"),)),
            ("a cat coming out of a box", (("cat", "coming out of", "box"),)),
            ("people walking down a street", (("people", "walking down", "street"),)),
            ("a skateboarder jumps off his skateboard", (("skateboarder", "jumps off", "skateboard"),)),
            ("a green trash can against a wall", (("trash can", "against", "wall"),)),
            ("the trash can is against the fence", (("trash can", "against", "fence"),)),
            ("trash can next to toilet .", (("trash can", "next to", "toilet"),)),
            ("a man without a shirt", (("man", "without", "shirt"),)),
            ("pop artist performs live on stage", (("pop artist", "performs on", "stage"),)),
            ("a city with one of the best beaches", (("city", "with", "beaches"),)),
            ("the view from our deck", (("view", "from", "deck"),)),
            ("friends celebrating something in a restaurant", (("friends", "in", "restaurant"),)),
            ("a bowl filled with noodles in sauce", (("bowl", "filled with", "noodles"), ("noodles", "in", "sauce"))),
            ("a plate topped with fruit on a table", (("plate", "topped with", "fruit"), ("plate", "on", "table"))),
            ("a person is seen at a table standing near a wall", (("person", "standing near", "wall"),)),
            ("a woman talking on a phone sitting next to a lamp", (("woman", "sitting next to", "lamp"),)),
            ("a kitten standing against the door", (("kitten", "standing against", "door"),)),
            ("a drawing on a door", (("drawing", "on", "door"),)),
            ("a yellow bus travels through a tunnel", (("bus", "travels through", "tunnel"),)),
            ("people standing in a living room holding cups", (("people", "standing in", "living room"),)),
            ("a dog ready to jump out of a helicopter", (("dog", "to jump out of", "helicopter"),)),
            ("an old boat sits docked in the shade", (("boat", "docked in", "shade"),)),
        ),
        counterexamples=(
            ("a man with no shirt", ()),
            ("a view of the train from a side window", ()),
            ("a photo of a house from above", ()),
            ("bowl of noodles in sauce", (("bowl", "of", "noodles"), ("noodles", "in", "sauce"))),
        ),
    ),
    Rule(
        name="relative_object", triggers=("relcl",), find=find_relative_object, has_object=True,
        repairs="does not look for it",
        examples=(("the shoes that the woman is wearing", (("woman", "wearing", "shoes"),)),),
    ),
    Rule(
        name="possessive", triggers=("poss",), find=find_possessor, lemma="have",
        repairs="does not look for it",
        examples=(("the man's hat", (("man", "'s", "hat"),)),),
    ),
)  # fmt: skip

RULES_BY_NAME: Final = {rule.name: rule for rule in RULES}
"""What else is known of a relation, by its `rule`; SceneGraphParser's ("sng") have no entry."""

RULES_BY_LABEL: Final = {
    label: tuple(rule for rule in RULES if label in rule.triggers)
    for label in sorted({label for rule in RULES for label in rule.triggers})
}
