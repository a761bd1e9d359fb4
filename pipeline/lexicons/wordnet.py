"""WordNet as plain records: the only file that opens WordNet, and only while lexicons are built.

`read_wordnet` finds a WordNet where it already is (NLTK's data, Debian's /usr/share/wordnet, a folder or tar.xz
in NLTK's layout, Open English WordNet in the same layout) and copies what the lexicons need into frozen records.
Nothing after `pipeline build-lexicons` needs it.
"""

import shutil
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pipeline.errors import UserError

Part = Literal["n", "v", "a", "r"]
INSTALL_HINT: Final = (
    "install it with `python -m nltk.downloader wordnet` or `apt-get install wordnet-base`, or give "
    "--wordnet the folder or tar.xz that holds data.noun"
)
DEBIAN_FOLDER: Final = Path("/usr/share/wordnet")
NEEDED_FILES: Final = tuple(
    f"{kind}.{part}" for part in ("noun", "verb", "adj", "adv") for kind in ("data", "index")
)
OPTIONAL_FILES: Final = ("noun.exc", "verb.exc", "adj.exc", "adv.exc", "cntlist.rev", "lexnames")
LEXICOGRAPHER_FILES: Final = (
    *("adj.all", "adj.pert", "adv.all"),
    *(
        "noun.Tops",
        "noun.act",
        "noun.animal",
        "noun.artifact",
        "noun.attribute",
        "noun.body",
        "noun.cognition",
    ),
    *("noun.communication", "noun.event", "noun.feeling", "noun.food", "noun.group", "noun.location"),
    *("noun.motive", "noun.object", "noun.person", "noun.phenomenon", "noun.plant", "noun.possession"),
    *(
        "noun.process",
        "noun.quantity",
        "noun.relation",
        "noun.shape",
        "noun.state",
        "noun.substance",
        "noun.time",
    ),
    *(
        "verb.body",
        "verb.change",
        "verb.cognition",
        "verb.communication",
        "verb.competition",
        "verb.consumption",
    ),
    *("verb.contact", "verb.creation", "verb.emotion", "verb.motion", "verb.perception", "verb.possession"),
    *("verb.social", "verb.stative", "verb.weather", "adj.ppl"),
)
"""The 45 lexicographer files in WordNet's order: what a missing `lexnames` would say."""
_SYNTACTIC_CATEGORY: Final = {"noun": 1, "verb": 2, "adj": 3, "adv": 4}
MAX_ARCHIVE_BYTES: Final = 200 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Synset:
    """One meaning. Other synsets are named, as in "dog.n.01"."""

    name: str
    part: Part
    file: str
    """Lexicographer file: noun.animal, verb.contact, ..."""
    lemmas: tuple[str, ...]
    """As written in WordNet, with spaces for underscores: proper names keep their capitals."""
    counts: tuple[int, ...]
    """How often each lemma was tagged with this meaning in WordNet's own texts."""
    hypernyms: tuple[str, ...]
    instance_of: tuple[str, ...]
    """Not empty: the synset names one individual (a city, a person)."""
    hyponyms: tuple[str, ...]
    similar: tuple[str, ...]
    also: tuple[str, ...]
    antonyms: tuple[str, ...]
    parts: tuple[str, ...]
    """Part, member and substance meronyms and holonyms."""
    verb_links: tuple[str, ...]
    """Entailed, caused and grouped verbs."""
    related: tuple[str, ...]
    """Lemmas of pertainyms and of derived forms, in any part of speech."""
    frames: tuple[int, ...]
    """Verb frames by WordNet's numbers: 8 is "Somebody ----s something"."""


class WordNet:
    """All synsets, and the order of senses of each lemma."""

    def __init__(
        self, synsets: Mapping[str, Synset], senses: Mapping[tuple[str, Part], tuple[str, ...]], version: str
    ):
        self.synsets = synsets
        self.version = version
        self._senses = senses
        self._ancestors: dict[str, frozenset[str]] = {}
        self._descendants: dict[str, frozenset[str]] = {}

    def senses(self, lemma: str, part: Part) -> tuple[Synset, ...]:
        """The meanings of a lower-case lemma (spaces between words), most common first."""
        return tuple(self.synsets[name] for name in self._senses.get((lemma, part), ()))

    def lemmas(self, part: Part) -> list[str]:
        """Every lower-case lemma of a part of speech, sorted."""
        return sorted(lemma for lemma, its_part in self._senses if its_part == part)

    def ancestors(self, name: str) -> frozenset[str]:
        """The hypernym closure of a synset, itself included."""
        return self._closure(self._ancestors, name, lambda synset: (*synset.hypernyms, *synset.instance_of))

    def descendants(self, name: str) -> frozenset[str]:
        """The hyponym closure of a synset, itself included."""
        return self._closure(self._descendants, name, lambda synset: synset.hyponyms)

    def words(self, names: Iterable[str]) -> set[str]:
        """The lower-case lemmas of the named synsets."""
        return {lemma.lower() for name in names for lemma in self.synsets[name].lemmas}

    def _closure(
        self, known: dict[str, frozenset[str]], name: str, step: Callable[[Synset], tuple[str, ...]]
    ) -> frozenset[str]:
        if name not in known:
            reached, open_names = {name}, [name]
            while open_names:
                fresh = [other for other in step(self.synsets[open_names.pop()]) if other not in reached]
                reached.update(fresh)
                open_names.extend(fresh)
            known[name] = frozenset(reached)
        return known[name]


def read_wordnet(where: str = "auto") -> WordNet:
    """The WordNet at `where`: "auto", a folder with data.noun in or below it, or a tar archive of one.

    Raises UserError with the command that installs it where there is none. Takes about ten seconds.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(_staged(where))
        return _extract(stack.enter_context(_open_reader(folder)))


@contextmanager
def _staged(where: str) -> Iterator[Path]:
    """A private folder with the files of the WordNet at `where`, `lexnames` made where it is missing."""
    with tempfile.TemporaryDirectory(prefix="wordnet-") as name:
        target = Path(name) / "corpora" / "wordnet"
        target.mkdir(parents=True)
        if where == "auto":
            _copy_folder(_find_installed(), target)
        elif Path(where).is_dir():
            _copy_folder(_find_below(Path(where)), target)
        elif Path(where).is_file():
            _copy_archive(Path(where), target)
        else:
            raise UserError(f"--wordnet {where} is no folder and no tar archive; {INSTALL_HINT}")
        missing = [file for file in NEEDED_FILES if not (target / file).is_file()]
        if missing:
            raise UserError(f"--wordnet {where} lacks {', '.join(missing)}; {INSTALL_HINT}")
        _complete(target)
        yield target


def _find_installed() -> Path:
    from nltk import data  # noqa: TID251

    for root in data.path:
        for name in ("wordnet", "wordnet31", "oewn", "english_wordnet"):
            folder = Path(str(root)) / "corpora" / name
            if (folder / "data.noun").is_file():
                return folder
    if (DEBIAN_FOLDER / "data.noun").is_file():
        return DEBIAN_FOLDER
    raise UserError(f"no WordNet on this machine; {INSTALL_HINT}")


def _find_below(folder: Path) -> Path:
    for found in [folder / "data.noun", *sorted(folder.rglob("data.noun"))]:
        if found.is_file():
            return found.parent
    raise UserError(f"--wordnet {folder}: no data.noun in it or below it; {INSTALL_HINT}")


def _copy_folder(source: Path, target: Path) -> None:
    for name in (*NEEDED_FILES, *OPTIONAL_FILES):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _copy_archive(archive: Path, target: Path) -> None:
    """Copy the members by their last name alone: no member chooses where it is written."""
    wanted = {*NEEDED_FILES, *OPTIONAL_FILES}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = Path(member.name).name
                if name not in wanted or not member.isfile() or member.size > MAX_ARCHIVE_BYTES:
                    continue
                content = tar.extractfile(member)
                assert content is not None
                (target / name).write_bytes(content.read())
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"--wordnet {archive} is no tar archive ({error}); {INSTALL_HINT}") from error


def _complete(folder: Path) -> None:
    """Make what Debian leaves out: `lexnames`, and empty exception and count files."""
    if not (folder / "lexnames").is_file():
        lines = (
            f"{number:02d}\t{name}\t{_SYNTACTIC_CATEGORY[name.split('.')[0]]}\n"
            for number, name in enumerate(LEXICOGRAPHER_FILES)
        )
        (folder / "lexnames").write_text("".join(lines), encoding="utf-8")
    for name in OPTIONAL_FILES:
        (folder / name).touch()


@contextmanager
def _open_reader(folder: Path) -> Iterator[Any]:
    """NLTK's reader on `folder`. NLTK opens nothing outside `nltk.data.path`, so the folder joins it meanwhile."""
    from nltk import data  # noqa: TID251
    from nltk.corpus.reader.wordnet import WordNetCorpusReader  # noqa: TID251

    class Reader(WordNetCorpusReader):  # type: ignore[misc]
        def map_wn(self, version: str = "wordnet") -> None:
            """No mapping between versions: it would need `index.sense`, which Debian leaves out."""

    root = str(folder.parent.parent)
    data.path.append(root)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that other languages are not there
        reader = Reader(str(folder), None)
        try:
            yield reader
        finally:
            data.path.remove(root)
            for file in (*reader._data_file_map.values(), reader._key_count_file):
                if file is not None:
                    file.close()  # the reader has no method that closes its files


def _extract(reader: Any) -> WordNet:
    synsets = {synset.name(): _record(synset) for synset in reader.all_synsets()}
    senses: dict[tuple[str, Part], tuple[str, ...]] = {}
    for part in ("n", "v", "a", "r"):
        for name in sorted(set(reader.all_lemma_names(pos=part))):
            lemma = name.replace("_", " ")
            found = (synset.name() for synset in reader.synsets(name, pos=part))
            # NLTK also strips endings ("glasses" finds "glass"): keep the meanings that have this very lemma.
            senses[lemma, part] = tuple(key for key in found if lemma in map(str.lower, synsets[key].lemmas))
    return WordNet(synsets, senses, str(reader.get_version()))


def _record(synset: Any) -> Synset:
    lemmas = synset.lemmas()
    part = synset.pos().replace("s", "a")
    return Synset(
        name=synset.name(),
        part=part,
        file=synset.lexname(),
        lemmas=tuple(lemma.name().replace("_", " ") for lemma in lemmas),
        counts=tuple(lemma.count() for lemma in lemmas),
        hypernyms=_names(synset.hypernyms()),
        instance_of=_names(synset.instance_hypernyms()),
        hyponyms=_names(synset.hyponyms() + synset.instance_hyponyms()),
        similar=_names(synset.similar_tos()),
        also=_names(synset.also_sees()),
        antonyms=_names(other.synset() for lemma in lemmas for other in lemma.antonyms()),
        parts=_names(
            synset.part_meronyms()
            + synset.part_holonyms()
            + synset.member_meronyms()
            + synset.member_holonyms()
            + synset.substance_meronyms()
            + synset.substance_holonyms()
        ),
        verb_links=_names(synset.entailments() + synset.causes() + synset.verb_groups()),
        related=tuple(
            sorted(
                {
                    other.name().replace("_", " ").lower()
                    for lemma in lemmas
                    for other in lemma.pertainyms() + lemma.derivationally_related_forms()
                }
            )
        ),
        frames=tuple(sorted(set(synset.frame_ids()) | {i for lemma in lemmas for i in lemma.frame_ids()})),
    )


def _names(synsets: Any) -> tuple[str, ...]:
    return tuple(sorted({synset.name() for synset in synsets}))
