"""Words that the graph rules treat in their own way: closed lists, each with what it means for a scene graph."""

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MEASURE_NOUNS: Final = _words(
    "group groups pair pairs bunch bunches couple couples lot lots number numbers herd herds flock flocks swarm pack"
    " crowd crowds gang dozen dozens hundreds thousands handful variety assortment collection series set sets array"
    " plenty kind kinds type types sort sorts piece pieces bit bits slice slices team teams row rows pile piles"
    " patch patches mix cluster clusters amount amounts part parts section sections portion portions stack stacks"
    " majority half rest hundred thousand layer layers selection host tons mixture school"
)
"""With "of" they count or measure: "a group of people" is people."""

SCENE_NOUNS: Final = _words(
    "photo photos photograph photographs picture pictures image images shot shots view views photography snapshot"
    " scene scenes illustration illustrations vector close-up closeup up portrait depiction footage render rendering"
    " sight glimpse"
)
"""With "of" they are the picture, not in it: "a photo of a dog" is a dog."""

SHARES: Final = _words("one some several many most all each both any")
"""With "of" they take a share of what they name: "one of the beaches" is a beach."""

PLACE_NOUNS: Final = _words(
    "front top side sides middle back end ends edge edges center centre left right bottom corner corners base"
    " rear outside inside midst foot distance background foreground"
)
"""With a preposition before and "of" after they are a place: "in front of", "on the side of"."""

PLACE_PREPOSITIONS: Final = _words("of to from")

COLOURS: Final = _words(
    "black white red green blue yellow brown orange pink purple gray grey silver gold golden beige tan maroon navy"
    " turquoise teal violet crimson"
)

MATERIALS: Final = _words(
    "wood metal steel iron brass bronze copper aluminum tin stone brick rock marble granite concrete cement glass"
    " plastic leather rubber denim cotton wool silk linen velvet lace fur paper cardboard clay ceramic porcelain tile"
    " bamboo wicker straw dirt gravel sandstone chrome nylon felt"
)
"""Right before a noun they say what it is made of: "a brick wall" is a wall that is brick."""

QUANTIFIERS: Final = _words(
    "many several other few various such own same more most multiple another different numerous certain only much"
)
"""Adjectives that count or point and describe nothing to see."""

SHADES: Final = _words("light dark bright pale deep very")
"""Before a colour they belong to it: "light blue"; "very" stays outside."""

INDEFINITE_PRONOUNS: Final = _words(
    "something anything nothing everything none anyone nobody anybody one ones"
)

MOTION_PREPOSITIONS: Final = _words("into onto to from off through out toward towards")
"""With a verb that has an object they place the object: "throws a ball to a dog"."""

BODY_PARTS: Final = _words(
    "hand hands arm arms mouth teeth lap shoulder shoulders finger fingers beak paw paws claws"
)
"""With a verb that has an object they hold the object: "a man holding a feather in his hands"."""

PLACING_VERBS: Final = _words(
    "put place set lay throw hang pour drop keep toss insert load stick attach mount store"
)
"""Verbs that place their object: "puts food on a plate"."""

PLACE_VERBS: Final = _words(
    "park stand sit seat lie lay place locate situate position rest lean walk pass moor dock anchor perch stop gather"
)
"""With "by" they say where, not who did it: "a car parked by a house"."""

RELATIVE_PRONOUNS: Final = _words("who which that whom")

CAN_CONTENTS: Final = _words(
    "trash garbage rubbish waste recycling litter soda beer cola coke drink drinks tin paint spray milk oil gas"
    " watering tuna soup fuel petrol pop juice food tomato aluminum aluminium metal steel garden water"
)
"""Before "can" they make it a noun: "a trash can"."""
