"""Coarse part of speech and lemma of every token, from its Penn tag, by table: the bundled parser's last component.

spaCy's stock rule lemmatizer strips endings without knowing words ("riding" -> "rid"). Here each verb of WordNet is
inflected once at loading, so that a form finds its verb ("riding" -> "ride", "planning" -> "plan", "planing" ->
"plane"); irregular forms come from WordNet's exception lists. The tables are plain text in `model/`; their build reads
WordNet 3.0 and belongs to the recipe. The parts of speech follow en_core_web_sm's attribute ruler.
"""

import io
import lzma
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from spacy.language import Language  # noqa: TID251 - the bundled parser's own package
from spacy.tokens import Doc  # noqa: TID251

from pipeline.word_lists import WordLists

FACTORY: Final = "caption_morphology"
LISTS: Final = WordLists.beside(__file__)

PART_OF_SPEECH: Final = {
    "_SP": "SPACE", ".": "PUNCT", ",": "PUNCT", "-LRB-": "PUNCT", "-RRB-": "PUNCT", "``": "PUNCT", '""': "PUNCT",
    "''": "PUNCT", ":": "PUNCT", "$": "SYM", "#": "SYM", "AFX": "ADJ", "CC": "CCONJ", "CD": "NUM", "DT": "DET",
    "EX": "PRON", "FW": "X", "HYPH": "PUNCT", "IN": "ADP", "JJ": "ADJ", "JJR": "ADJ", "JJS": "ADJ", "LS": "X",
    "MD": "AUX", "NN": "NOUN", "NNP": "PROPN", "NNPS": "PROPN", "NNS": "NOUN", "PDT": "DET", "POS": "PART",
    "PRP": "PRON", "PRP$": "PRON", "RB": "ADV", "RBR": "ADV", "RBS": "ADV", "RP": "ADP", "SYM": "SYM", "TO": "PART",
    "UH": "INTJ", "VB": "VERB", "VBD": "VERB", "VBG": "VERB", "VBN": "VERB", "VBP": "VERB", "VBZ": "VERB",
    "WDT": "DET", "WP": "PRON", "WP$": "DET", "WRB": "SCONJ", "ADD": "X", "NFP": "PUNCT", "GW": "X", "XX": "X",
}  # fmt: skip
BE: Final = frozenset(["be", "am", "is", "are", "was", "were", "been", "being", "'s", "'re", "'m"])
DO_AND_HAVE: Final = frozenset(["do", "does", "did", "have", "has", "had", "'ve", "'d"])
INDEFINITE: Final = LISTS.word_set("indefinite_pronouns.txt")
KEPT_PLURALS: Final = LISTS.word_set("kept_plurals.txt")
MAIN_VERB_LABELS: Final = frozenset(["ROOT", "advcl", "ccomp", "conj", "relcl", "xcomp"])
VOWELS: Final = frozenset("aeiou")
NUM_CACHED_FORMS: Final = 50_000


def part_of_speech(word: str, tag: str, label: str) -> str:
    """The Universal part of speech of a lower-case word with its Penn tag and dependency label."""
    if label in ("aux", "auxpass") and tag != "TO":
        return "AUX"
    if tag.startswith("VB"):
        if word in BE:
            return "AUX"
        if word in DO_AND_HAVE:
            return "VERB" if label in MAIN_VERB_LABELS else "AUX"
    elif tag in ("DT", "WDT"):
        return "DET" if label in ("det", "quantmod") else "PRON"
    elif tag == "NN" and word in INDEFINITE:
        return "PRON"
    elif tag == "IN" and label == "mark":
        return "SCONJ"
    return PART_OF_SPEECH.get(tag, "X")


def inflect_verb(verb: str) -> tuple[str, ...]:
    """The regular forms of a verb: -s, -ing, -ed; of a final consonant that may double, both spellings."""
    if verb.endswith(("s", "x", "z", "ch", "sh", "o")):
        third = verb + "es"
    elif verb.endswith("y") and verb[-2:-1] not in VOWELS:
        third = verb[:-1] + "ies"
    else:
        third = verb + "s"
    if verb.endswith("ie"):
        return third, verb[:-2] + "ying", verb + "d"
    if verb.endswith("e"):
        ing = verb + "ing" if verb.endswith(("ee", "oe", "ye")) else verb[:-1] + "ing"
        return third, ing, verb + "d"
    if verb.endswith("y") and verb[-2:-1] not in VOWELS:
        return third, verb + "ing", verb[:-1] + "ied"
    if may_double(verb):
        doubled = verb + verb[-1]
        if num_vowel_groups(verb) == 1:
            return third, doubled + "ing", doubled + "ed"
        return third, doubled + "ing", doubled + "ed", verb + "ing", verb + "ed"
    return third, verb + "ing", verb + "ed"


def may_double(word: str) -> bool:
    """Whether a word ends in a single consonant after a single vowel: "plan", "visit", not "rain", "row"."""
    if len(word) < 3 or word[-1] in VOWELS or word[-1] in "wxy" or word[-2] not in VOWELS:
        return False
    return word[-3] not in VOWELS or (word[-3:-1] in ("ui",) and word[-4:-3] == "q")


def num_vowel_groups(word: str) -> int:
    """How many runs of vowels a word has: about its syllables."""
    return sum(
        letter in VOWELS and (index == 0 or word[index - 1] not in VOWELS)
        for index, letter in enumerate(word)
    )


def singular_by_rule(plural: str) -> str:
    """The singular of a regular plural, without knowing words."""
    if plural.endswith(("ss", "us", "is")) or not plural.endswith("s") or len(plural) < 3:
        return plural
    if plural.endswith("ies") and len(plural) > 4:
        return plural[:-3] + "y"
    if plural.endswith(("ches", "shes", "sses", "xes", "zzes", "oes")):
        return plural[:-2]
    return plural[:-1]


def plural_by_rule(singular: str) -> str:
    """The regular plural of a noun."""
    if singular.endswith(("s", "x", "z", "ch", "sh")):
        return singular + "es"
    if singular.endswith("y") and singular[-2:-1] not in VOWELS:
        return singular[:-1] + "ies"
    return singular + "s"


def verb_by_rule(form: str) -> str:
    """A guess at the verb of a form that no known verb has: "googling" -> "googl", "photobombed" -> "photobomb"."""
    for ending in ("ing", "ed"):
        stem = form.removesuffix(ending)
        if stem != form and num_vowel_groups(stem) > 0 and len(stem) > 2:
            if stem[-1] == stem[-2] and stem[-1] not in "lsz" + "aeiou":
                return stem[:-1]
            return stem + "e" if stem[-1] in "vcuz" or stem.endswith(("at", "iz", "dg", "rg")) else stem
    if form.endswith("ies") and len(form) > 4:
        return form[:-3] + "y"
    if form.endswith(("ches", "shes", "sses", "xes", "zzes")):
        return form[:-2]
    return form[:-1] if form.endswith("s") and not form.endswith("ss") else form


def adjective_by_rule(form: str) -> str:
    """The positive of a comparative or superlative: "smaller" -> "small", "bigger" -> "big", "happiest" -> "happy"."""
    for ending in ("est", "er"):
        stem = form.removesuffix(ending)
        if stem != form and len(stem) > 2:
            if stem.endswith("i"):
                return stem[:-1] + "y"
            if stem[-1] == stem[-2] and stem[-1] not in "ls":
                return stem[:-1]
            return stem + "e" if stem[-1] in "cvgz" or (stem[-1] in "sd" and stem[-2] in "oi") else stem
    return form


class CaptionMorphology:
    """The component: sets `pos_` and `lemma_` of each token. Needs tags and dependency labels."""

    def __init__(self) -> None:
        self.verbs: list[str] = []
        """Known verbs, the commonest first: of two verbs with one form the first has it."""
        self.irregular: dict[str, dict[str, str]] = {"verb": {}, "noun": {}, "adj": {}}
        self._verb_forms: dict[str, str] = {}
        self._analyse = lru_cache(NUM_CACHED_FORMS)(self._analyse_uncached)
        self.cached_lemma = lru_cache(NUM_CACHED_FORMS)(self._lemma_as_written)
        """(word as written, Penn tag) -> lower-case lemma."""

    def __call__(self, doc: Doc) -> Doc:
        """Set the part of speech and the lemma of every token of `doc`."""
        analyse = self._analyse
        previous_label = ""
        for token in doc:
            label = token.dep_
            if token.is_space:
                token.tag_ = "_SP"
            pos, lemma = analyse(token.text, token.tag_, label)
            if previous_label == "expl" and pos == "AUX" and lemma == "be":
                pos = "VERB"  # "there is a dog": the attribute ruler's one rule over two tokens
            token.pos_ = pos
            token.lemma_ = lemma
            previous_label = label
        return doc

    def _analyse_uncached(self, text: str, tag: str, label: str) -> tuple[str, str]:
        word = text.lower().replace("’", "'")
        return part_of_speech(word, tag, label), self.lemma(word, tag)

    def _lemma_as_written(self, text: str, tag: str) -> str:
        return self.lemma(text.lower().replace("’", "'"), tag)

    def lemma(self, word: str, tag: str) -> str:
        """The lemma of a lower-case word with this Penn tag."""
        if tag.startswith("VB") or tag == "MD":
            found = self.irregular["verb"].get(word)
            if found is None:
                found = word if tag in ("VB", "VBP") else self._verb_forms.get(word) or verb_by_rule(word)
            return found
        if tag in ("NNS", "NNPS"):
            if word in KEPT_PLURALS:
                return word
            return self.irregular["noun"].get(word) or singular_by_rule(word)
        if tag in ("JJR", "JJS", "RBR", "RBS"):
            return self.irregular["adj"].get(word) or adjective_by_rule(word)
        return word

    def _index_verbs(self) -> None:
        self._verb_forms = {}
        for verb in self.verbs:
            for form in inflect_verb(verb):
                self._verb_forms.setdefault(form, verb)
        self._analyse.cache_clear()
        self.cached_lemma.cache_clear()

    def build(self, wordnet: Path) -> None:
        """Make the tables from the archive of WordNet 3.0 laid out for NLTK."""
        files = read_wordnet(wordnet)
        counts: dict[str, int] = defaultdict(int)
        for line in files["cntlist.rev"]:
            key, _, count = line.split()
            lemma, _, rest = key.partition("%")
            if rest.startswith("2"):
                counts[lemma] += int(count)
        known = [line.split(" ", 1)[0] for line in files["index.verb"] if line.strip() and line[0] != " "]
        verbs = [verb for verb in known if verb.isalpha() and verb.isascii()]
        self.verbs = sorted(verbs, key=lambda verb: (-counts[verb], verb))
        for kind in self.irregular:
            pairs = (line.split()[:2] for line in files[f"{kind}.exc"])
            table: dict[str, str] = {}
            for form, lemma in pairs:
                if form.isalpha() and lemma.isalpha():
                    table.setdefault(form, lemma)
            self.irregular[kind] = table
        self.irregular["verb"].update(dict(LISTS.rows("verb_forms.csv")))
        self._keep_regular_verbs()
        nouns = [line.split(" ", 1)[0] for line in files["index.noun"] if line.strip() and line[0] != " "]
        known_nouns = frozenset(nouns)
        for noun in nouns:
            plural = plural_by_rule(noun)
            if noun.isalpha() and noun.isascii() and singular_by_rule(plural) not in known_nouns:
                self.irregular["noun"].setdefault(plural, noun)
        self._index_verbs()

    def _keep_regular_verbs(self) -> None:
        """Drop exceptions that the regular forms give anyway, and those that hide a commoner regular verb."""
        self._index_verbs()
        rank = {verb: index for index, verb in enumerate(self.verbs)}
        table = self.irregular["verb"]
        for form, lemma in list(table.items()):
            regular = self._verb_forms.get(form)
            if regular == lemma or (regular and rank.get(regular, 0) < rank.get(lemma, len(rank))):
                del table[form]

    def to_disk(self, path: Path | str, *, exclude: Iterable[str] = ()) -> None:
        """Write the tables as sorted text files."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "verbs.txt").write_text("\n".join(self.verbs) + "\n", "utf-8")
        for kind, table in self.irregular.items():
            lines = [f"{form} {lemma}\n" for form, lemma in sorted(table.items())]
            (folder / f"{kind}.txt").write_text("".join(lines), "utf-8")

    def from_disk(self, path: Path | str, *, exclude: Iterable[str] = ()) -> "CaptionMorphology":
        """Read the tables."""
        folder = Path(path)
        self.verbs = (folder / "verbs.txt").read_text("utf-8").split()
        for kind in self.irregular:
            lines = (folder / f"{kind}.txt").read_text("utf-8").splitlines()
            self.irregular[kind] = {form: lemma for form, _, lemma in (line.partition(" ") for line in lines)}
        self._index_verbs()
        return self


def read_wordnet(archive: Path) -> dict[str, list[str]]:
    """The lines of the WordNet files the tables are made from, by file name."""
    wanted = {"verb.exc", "noun.exc", "adj.exc", "index.verb", "index.noun", "cntlist.rev"}
    found: dict[str, list[str]] = {}
    with lzma.open(archive) as stream, tarfile.open(fileobj=io.BytesIO(stream.read())) as tar:
        for member in tar:
            name = Path(member.name).name
            lines = tar.extractfile(member) if name in wanted else None
            if lines is not None:
                found[name] = lines.read().decode("utf-8").splitlines()
    return found


@Language.factory(FACTORY, assigns=["token.pos", "token.lemma"], requires=["token.tag", "token.dep"])
def create_morphology(nlp: Language, name: str) -> Callable[[Doc], Doc]:
    """The component as spaCy builds it when it loads the pipeline."""
    component: Any = CaptionMorphology()
    return component  # type: ignore[no-any-return]
