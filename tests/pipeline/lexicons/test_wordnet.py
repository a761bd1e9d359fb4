"""Reading WordNet's own files, from a tiny one written here: no download."""

import shutil
import tarfile
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.lexicons.wordnet import (
    DEBIAN_FOLDER,
    LEXICOGRAPHER_FILES,
    WordNet,
    _open_reader,
    _staged,
    read_wordnet,
)

LICENCE = "  1 This software and database is being provided to you. WordNet 3.0 Copyright 2006\n"
NOUNS = ("entity 03 n", "animal 05 n", "dog 05 n", "Rex 05 n")
"""Each the hyponym of the one before."""


def write_tiny_wordnet(folder: Path, *, debian: bool) -> Path:
    """Four nouns in a chain, one verb; as WordNet writes them."""
    folder.mkdir(parents=True)
    lines: list[str] = []
    offsets: list[int] = []
    offset = len(LICENCE)
    for number, noun in enumerate(NOUNS):
        word, file, _ = noun.split()
        up = f"@ {offsets[-1]:08d} n 0000 " if number else ""
        down = "~ {next:08d} n 0000 " if number < len(NOUNS) - 1 else ""
        count = bool(up) + bool(down)
        text = f"{offset:08d} {file} n 01 {word} 0 {count:03d} {up}{down}| a {word}  \n"
        offsets.append(offset)
        offset += len(text.replace("{next:08d}", "00000000"))
        lines.append(text)
    data = [
        line.replace("{next:08d}", f"{then:08d}") for line, then in zip(lines, [*offsets[1:], 0], strict=True)
    ]
    (folder / "data.noun").write_text(LICENCE + "".join(data))
    index = sorted((noun.split()[0].lower(), place) for noun, place in zip(NOUNS, offsets, strict=True))
    (folder / "index.noun").write_text(
        "".join(f"{word} n 1 1 @ 1 0 {place:08d}  \n" for word, place in index)
    )
    verb = f"{len(LICENCE):08d} 35 v 01 kick 0 000 01 + 08 00 | strike with the foot  \n"
    (folder / "data.verb").write_text(LICENCE + verb)
    (folder / "index.verb").write_text(f"kick v 1 0 1 0 {len(LICENCE):08d}  \n")
    for name in ("adj", "adv"):
        (folder / f"data.{name}").write_text(LICENCE)
        (folder / f"index.{name}").write_text("")
    if not debian:
        part = {"noun": 1, "verb": 2, "adj": 3, "adv": 4}
        names = enumerate(LEXICOGRAPHER_FILES)
        (folder / "lexnames").write_text(
            "".join(f"{i:02d}\t{name}\t{part[name[:4].rstrip('.')]}\n" for i, name in names)
        )
    return folder


@pytest.mark.parametrize("debian", [True, False])
def test_folder_in_either_layout(tmp_path: Path, debian: bool) -> None:
    wordnet = read_wordnet(str(write_tiny_wordnet(tmp_path / "wordnet", debian=debian)))
    assert wordnet.version == "3.0"
    dog = wordnet.senses("dog", "n")[0]
    assert (dog.file, dog.lemmas) == ("noun.animal", ("dog",))
    assert wordnet.words(wordnet.ancestors(dog.name)) == {"dog", "animal", "entity"}
    assert wordnet.words(wordnet.descendants(dog.name)) == {"dog", "rex"}
    assert wordnet.senses("kick", "v")[0].frames == (8,)


def test_proper_names_keep_their_capitals(tmp_path: Path) -> None:
    wordnet: WordNet = read_wordnet(str(write_tiny_wordnet(tmp_path / "wordnet", debian=True)))
    assert wordnet.senses("rex", "n")[0].lemmas == ("Rex",)


def test_archive_members_choose_no_place(tmp_path: Path) -> None:
    folder = write_tiny_wordnet(tmp_path / "wordnet", debian=True)
    with tarfile.open(tmp_path / "wordnet.tar.xz", "w:xz") as tar:
        for file in sorted(folder.iterdir()):
            tar.add(file, arcname=f"../../escaped/{file.name}")
    assert read_wordnet(str(tmp_path / "wordnet.tar.xz")).senses("dog", "n")
    assert not (tmp_path.parent / "escaped").exists()


@pytest.mark.parametrize("what", ["nothing", "empty folder", "text file", "incomplete"])
def test_no_wordnet_gives_the_command_that_installs_it(tmp_path: Path, what: str) -> None:
    where = tmp_path / "place"
    if what == "empty folder":
        where.mkdir()
    elif what == "text file":
        where.write_text("no archive")
    elif what == "incomplete":
        write_tiny_wordnet(where, debian=True)
        (where / "index.verb").unlink()
    with pytest.raises(UserError, match=r"nltk\.downloader wordnet"):
        read_wordnet(str(where))


def test_folder_is_found_below(tmp_path: Path) -> None:
    folder = write_tiny_wordnet(tmp_path / "made", debian=True)
    shutil.move(folder, tmp_path / "nltk_data" / "corpora" / "wordnet")
    assert read_wordnet(str(tmp_path / "nltk_data")).senses("animal", "n")


@pytest.mark.skipif(
    not (DEBIAN_FOLDER / "data.noun").is_file(), reason="Debian's wordnet-base is not installed here"
)
def test_debians_own_folder_is_read_and_left_alone() -> None:
    before = {file.name: file.stat().st_mtime_ns for file in DEBIAN_FOLDER.iterdir()}
    assert "lexnames" not in before
    with _staged(str(DEBIAN_FOLDER)) as folder, _open_reader(folder) as reader:
        dog = reader.synset("dog.n.01")
        assert (reader.get_version(), dog.lexname()) == ("3.0", "noun.animal")
        assert {"canine", "domestic_animal"} <= {name for up in dog.hypernyms() for name in up.lemma_names()}
        assert 8 in reader.synset("kick.v.01").lemmas()[0].frame_ids()
    assert {file.name: file.stat().st_mtime_ns for file in DEBIAN_FOLDER.iterdir()} == before
