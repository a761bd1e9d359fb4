"""The captions that the bundled parser is trained and judged on, each with the part it belongs to.

Used by the recipe (`train.py`) and by the benchmarks, never by the pipeline itself. Every source is split by image,
so that no two captions of one image stand on both sides; Flickr8k is a subset of Flickr30k, so the photo's number
decides for both. `test` is never seen in training, `dev` chooses the weights that are kept.
"""

import csv
import gzip
import hashlib
import json
import lzma
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Part = Literal["train", "dev", "test"]

WORDNET_FILES: Final = ("data.noun", "data.verb", "data.adj")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCaption:
    """One caption with where it comes from: `source` names the corpus, `row` the place inside it."""

    source: str
    row: str
    part: Part
    text: str


def split_by_hash(image: str, *, per_mille_test: int, per_mille_dev: int) -> Part:
    """The part of an image, by its name alone: the same on every machine, whatever else is in the corpus."""
    bucket = int.from_bytes(hashlib.sha256(image.encode()).digest()[:8], "big") % 1000
    if bucket < per_mille_test:
        return "test"
    return "dev" if bucket < per_mille_test + per_mille_dev else "train"


def read_coco(data: Path) -> Iterator[SourceCaption]:
    """COCO val2017: 10 % of the images are kept for tests, 2 % for dev."""
    document = json.loads((data / "coco_captions_val2017" / "captions_val2017.json").read_text("utf-8"))
    for annotation in document["annotations"]:
        part = split_by_hash(f"coco {annotation['image_id']}", per_mille_test=100, per_mille_dev=20)
        yield SourceCaption(source="coco", row=str(annotation["id"]), part=part, text=annotation["caption"])


def read_flickr8k(data: Path) -> Iterator[SourceCaption]:
    """Flickr8k, all five captions of an image, in its own three splits."""
    for tar_path in sorted((data / "flickr8k_wds").glob("*.tar")):
        part: Part = {"train": "train", "dev": "dev", "test": "test"}[tar_path.name.split("-")[0]]  # type: ignore[assignment]
        with tarfile.open(tar_path) as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.name.endswith(".json") else None
                if stream is None:
                    continue
                sample = json.load(stream)
                for index, text in enumerate(sample["captions"]):
                    yield SourceCaption(
                        source="flickr8k", row=f"{sample['image']} {index}", part=part, text=text
                    )


def read_flickr30k(data: Path) -> Iterator[SourceCaption]:
    """Flickr30k as Multi30k has it (train, val, test_2016), without any photo that Flickr8k keeps for dev or test."""
    held_out = {
        photo_number(caption.row) for caption in read_flickr8k(data) if caption.part in ("dev", "test")
    }
    folder = data / "multi30k_en"
    splits: tuple[tuple[str, str, Part], ...] = (
        ("train", "train", "train"), ("val", "val", "dev"), ("test_2016", "test_2016_flickr", "test"),
    )  # fmt: skip
    for name, image_list, part in splits:
        images = (folder / "task1" / "image_splits" / f"{image_list}.txt").read_text("utf-8").splitlines()
        for number in range(1, 6):
            lines = gzip.open(folder / "task2" / "raw" / f"{name}.{number}.en.gz", "rt", encoding="utf-8")
            with lines:
                for image, line in zip(images, lines, strict=True):
                    if part == "train" and photo_number(image) in held_out:
                        continue
                    yield SourceCaption(
                        source="flickr30k", row=f"{image} {number}", part=part, text=line.strip()
                    )


def photo_number(image: str) -> str:
    """Flickr's number of a photo, which Flickr8k and Flickr30k share: "1000268201_693b08cb0e.jpg" -> "1000268201"."""
    match = re.match(r"\d+", image)
    return match.group() if match else image


def read_cc3m(data: Path) -> Iterator[SourceCaption]:
    """Conceptual Captions, the hardest text here: 15 % of the tsv for tests, 5 % for dev; of the csv 5 and 2 %."""
    with (data / "cc3m" / "validation_first_8000.tsv").open(encoding="utf-8", newline="\n") as lines:
        for index, line in enumerate(lines):
            caption, _, url = line.rstrip("\r\n").partition("\t")
            part = split_by_hash(url, per_mille_test=150, per_mille_dev=50)
            yield SourceCaption(source="cc3m_tsv", row=str(index), part=part, text=caption)
    with (data / "cc3m" / "cc3m_natural_10K_WObanana.csv").open(encoding="utf-8", newline="") as lines:
        for index, row in enumerate(csv.DictReader(lines)):
            part = split_by_hash(row["image"], per_mille_test=50, per_mille_dev=20)
            yield SourceCaption(source="cc3m_csv", row=str(index), part=part, text=row["caption"])


def read_factual(data: Path) -> Iterator[SourceCaption]:
    """FACTUAL's region descriptions (their text alone): train without the images of dev; dev is a test set here."""
    with (data / "factual" / "dev.csv").open(encoding="utf-8", newline="") as lines:
        dev_rows = list(csv.DictReader(lines))
    dev_images = {row["image_id"] for row in dev_rows}
    with (data / "factual" / "train.csv").open(encoding="utf-8", newline="") as lines:
        train_rows = [row for row in csv.DictReader(lines) if row["image_id"] not in dev_images]
    parts: tuple[tuple[Part, list[dict[str, str]]], ...] = (("train", train_rows), ("test", dev_rows))
    for part, rows in parts:
        for row in rows:
            yield SourceCaption(source="factual", row=row["region_id"], part=part, text=row["caption"])


def read_glosses(data: Path) -> Iterator[SourceCaption]:
    """WordNet's glosses, for rare words: each definition and example is a fragment or a short sentence."""
    archive = data / "wordnet30" / "nltk_data.tar.xz"
    with lzma.open(archive) as stream, tarfile.open(fileobj=stream) as tar:
        for member in tar:
            if Path(member.name).name not in WORDNET_FILES:
                continue
            lines = tar.extractfile(member)
            assert lines is not None
            for line in lines.read().decode("utf-8").splitlines():
                yield from split_gloss(line, Path(member.name).name)


def split_gloss(line: str, file: str) -> Iterator[SourceCaption]:
    """The definition and the quoted examples of one line of a WordNet data file; none for the licence's lines."""
    offset, _, rest = line.partition(" ")
    gloss = rest.partition("| ")[2]
    if not offset or not gloss:
        return
    pieces = [gloss.partition('; "')[0], *re.findall(r'"([^"]+)"', gloss)]
    for index, piece in enumerate(pieces):
        text = piece.strip().strip(";").strip()
        if 8 <= len(text) <= 160:
            yield SourceCaption(source="glosses", row=f"{file} {offset} {index}", part="train", text=text)


def read_all(data: Path) -> Iterator[SourceCaption]:
    """Every caption of every source, in a fixed order, each text once per part; no train text is held out elsewhere."""
    captions = [
        caption
        for read in (read_coco, read_flickr8k, read_flickr30k, read_cc3m, read_factual, read_glosses)
        for caption in read(data)
    ]
    held_out = {plain(caption.text) for caption in captions if caption.part != "train"}
    seen: set[tuple[str, str]] = set()
    for caption in captions:
        text = plain(caption.text)
        family = "train" if caption.part == "train" else f"{caption.source} {caption.part}"
        if (family, text) in seen or (caption.part == "train" and text in held_out) or not text:
            continue
        seen.add((family, text))
        yield caption


def plain(text: str) -> str:
    """The caption's letters and digits alone, lower case: two captions with the same plain text are one."""
    return "".join(character for character in text.lower() if character.isalnum())
