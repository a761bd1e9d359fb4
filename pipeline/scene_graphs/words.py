"""Words that the graph rules treat in their own way: closed lists; each file's head says what they mean to a graph."""

from typing import Final

from pipeline.word_lists import WordLists

_LISTS: Final = WordLists.beside(__file__)

ABBREVIATIONS: Final = _LISTS.word_set("abbreviations.txt")
MEASURE_NOUNS: Final = _LISTS.word_set("measure_nouns.txt")
SCENE_NOUNS: Final = _LISTS.word_set("scene_nouns.txt")
SHARES: Final = _LISTS.word_set("shares.txt")
PLACE_NOUNS: Final = _LISTS.word_set("place_nouns.txt")
PLACE_PREPOSITIONS: Final = _LISTS.word_set("place_prepositions.txt")
COLOURS: Final = _LISTS.word_set("colours.txt")
MATERIALS: Final = _LISTS.word_set("materials.txt")
QUANTIFIERS: Final = _LISTS.word_set("quantifiers.txt")
SHADES: Final = _LISTS.word_set("shades.txt")
INDEFINITE_PRONOUNS: Final = _LISTS.word_set("indefinite_pronouns.txt")
MOTION_PREPOSITIONS: Final = _LISTS.word_set("motion_prepositions.txt")
BODY_PARTS: Final = _LISTS.word_set("body_parts.txt")
PLACING_VERBS: Final = _LISTS.word_set("placing_verbs.txt")
PLACE_VERBS: Final = _LISTS.word_set("place_verbs.txt")
RELATIVE_PRONOUNS: Final = _LISTS.word_set("relative_pronouns.txt")
CAN_CONTENTS: Final = _LISTS.word_set("can_contents.txt")
PEOPLE_AND_ANIMALS: Final = _LISTS.word_set("people_and_animals.txt")
BODILY_VERBS: Final = _LISTS.word_set("bodily_verbs.txt")
ONE_THING: Final = frozenset(_LISTS.words("one_thing.txt"))
SIDES: Final = _LISTS.word_set("sides.txt")
THINGS_IN_ING: Final = _LISTS.word_set("things_in_ing.txt")
LIQUIDS: Final = _LISTS.word_set("liquids.txt")
LEAFY_PLANTS: Final = _LISTS.word_set("leafy_plants.txt")
TRANSITIVE_PARTICIPLES: Final = _LISTS.word_set("transitive_participles.txt")
ADJECTIVES: Final = _LISTS.word_set("adjectives.txt")
