"""What people own is read as it is: the format is recognised, said on one line, and its images are found."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.captions.images import read_images
from pipeline.captions.readers import InputOptions, open_source
from pipeline.errors import UserError
from tests.small_inputs import image_bytes, write_tar

CAPTIONS = ("a dog on a beach", "a cat, asleep")


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image_bytes())


def csv(name: str, separator: str, header: tuple[str, str]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        file = io.StringIO()
        quoted = [f'"{caption}"' if separator == "," else caption for caption in CAPTIONS]
        rows = [header, *zip(("images/1.png", "images/2.png"), quoted, strict=True)]
        file.writelines(separator.join(row) + "\n" for row in rows)
        (folder / name).write_text(file.getvalue())
        picture(folder / "images/1.png")
        picture(folder / "images/2.png")
        return folder / name

    return write


def bars(folder: Path) -> Path:
    """Flickr30k's results.csv."""
    lines = ["image_name| comment_number| comment", *(f"{n}.png| 0| {c}" for n, c in enumerate(CAPTIONS))]
    (folder / "results.csv").write_text("\n".join(lines) + "\n")
    for n in range(2):
        picture(folder / f"images/{n}.png")
    return folder / "results.csv"


def tokens(folder: Path) -> Path:
    """Flickr8k.token.txt."""
    (folder / "Flickr8k.token.txt").write_text("".join(f"{n}.png#0\t{c}\n" for n, c in enumerate(CAPTIONS)))
    for n in range(2):
        picture(folder / f"Images/{n}.png")
    return folder / "Flickr8k.token.txt"


def coco(folder: Path) -> Path:
    """The folder as it is downloaded: annotations/ beside val2017/, boxes beside captions."""
    images = [{"id": n, "file_name": f"{n}.png"} for n in range(2)]
    annotations = [{"id": 10 + n, "image_id": n, "caption": c} for n, c in enumerate(CAPTIONS)]
    (folder / "annotations").mkdir()
    (folder / "annotations/captions_val2017.json").write_text(
        json.dumps({"info": {}, "images": images, "annotations": annotations})
    )
    (folder / "annotations/instances_val2017.json").write_text('{"annotations": [{"bbox": []}]}')
    for n in range(2):
        picture(folder / f"val2017/{n}.png")
    return folder


def karpathy(folder: Path) -> Path:
    images = [
        {"filepath": "val2014", "filename": f"{n}.png", "split": s, "sentences": [{"raw": c, "sentid": n}]}
        for n, (c, s) in enumerate(zip(CAPTIONS, ("train", "test"), strict=True))
    ]
    (folder / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))
    for n in range(2):
        picture(folder / f"val2014/{n}.png")
    return folder / "dataset_coco.json"


def listed(records: list[dict[str, Any]], name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        lines = name.endswith("jsonl")
        text = "\n".join(map(json.dumps, records)) if lines else json.dumps(records, indent=1)
        (folder / name).write_text(text)
        for record in records:
            picture(folder / str(record.get("image") or record.get("file_name")))
        return folder / name

    return write


def conversation(n: int, caption: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": "Describe.\n<image>"}, {"from": "gpt", "value": caption}]
    return {"id": f"x/{n}", "image": f"{n}.png", "conversations": turns}


def chat(n: int, caption: str) -> dict[str, Any]:
    parts = [{"type": "text", "text": caption}]
    return {
        "image": f"{n}.png",
        "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": parts}],
    }


def downloaded(folder: Path) -> Path:
    """img2dataset with --output_format parquet."""
    columns = {
        "url": ["http://x/1", "http://x/2"],
        "caption": CAPTIONS,
        "key": ["000", "001"],
        "status": ["success"] * 2,
    }
    pq.write_table(pa.table(columns | {"jpg": [image_bytes(format="JPEG")] * 2}), folder / "00000.parquet")
    (folder / "00000_stats.json").write_text("{}")
    return folder


def hub(folder: Path) -> Path:
    """A data set of the Hugging Face hub, cloned: several captions of an image in one cell."""
    (folder / "data").mkdir()
    (folder / "README.md").write_text("---\n")
    (folder / "dataset_infos.json").write_text("{}")
    image = {"bytes": image_bytes(), "path": "1.png"}
    pq.write_table(
        pa.table({"image": [image], "caption": [list(CAPTIONS)]}),
        folder / "data/train-00000-of-00001.parquet",
    )
    pq.write_table(
        pa.table({"image": [image], "caption": [["of the test"]]}),
        folder / "data/test-00000-of-00001.parquet",
    )
    return folder


def tar(folder: Path) -> Path:
    members = {
        f"{n}.{e}": d
        for n, c in enumerate(CAPTIONS)
        for e, d in (("png", image_bytes()), ("txt", c.encode()))
    }
    return write_tar(folder / "00000.tar", members)


def img2dataset(folder: Path) -> Path:
    for n, c in enumerate(CAPTIONS):
        record = json.dumps({"caption": c, "url": "http://x"}).encode()
        write_tar(folder / f"0000{n}.tar", {f"{n}.jpg": image_bytes(), f"{n}.json": record})
        pq.write_table(pa.table({"caption": [c]}), folder / f"0000{n}.parquet")
    return folder


CONVERSATIONS = [conversation(n, c) for n, c in enumerate(CAPTIONS)]
RECORDS = [{"image": f"{n}.png", "caption": c} for n, c in enumerate(CAPTIONS)]
OWNED = {
    "WebDataset": (tar, "00000.tar read as WebDataset tars: captions from .txt, else .json"),
    "img2dataset tars": (img2dataset, "2 files read as WebDataset tars"),
    "img2dataset Parquet": (downloaded, "captions from caption, images from jpg (bytes)"),
    "Hugging Face folder": (hub, "captions from caption, images from image (bytes)"),
    "CleanCLIP csv": (
        csv("train.csv", ",", ("image", "caption")),
        "caption (separated by comma), images from image",
    ),
    "open_clip tsv": (
        csv("train.tsv", "\t", ("filepath", "title")),
        "title (separated by tab), images from filepath",
    ),
    "open_clip csv": (
        csv("train.csv", ";", ("filepath", "title")),
        "captions from title (separated by semicolon)",
    ),
    "Flickr30k csv": (bars, "captions from comment (separated by bar), images from image_name"),
    "Flickr8k tokens": (tokens, "read as Flickr's tokens"),
    "COCO folder": (coco, "captions_val2017.json read as COCO captions"),
    "Karpathy": (karpathy, "read as Karpathy's JSON"),
    "JSON list": (listed(RECORDS, "a.json"), "read as a JSON list: captions from caption, images from image"),
    "JSON lines": (
        listed(RECORDS, "a.jsonl"),
        "read as JSON lines: captions from caption, images from image",
    ),
    "JSON lines called .json": (listed(RECORDS, "a.jsonl"), "read as JSON lines"),
    "ImageFolder metadata": (
        listed([{"file_name": f"{n}.png", "text": c} for n, c in enumerate(CAPTIONS)], "metadata.jsonl"),
        "captions from text, images from file_name",
    ),
    "LLaVA list": (
        listed(CONVERSATIONS, "llava.json"),
        "captions from conversations",
    ),
    "LLaVA lines": (
        listed(CONVERSATIONS, "llava.jsonl"),
        "captions from conversations",
    ),
    "chat lines": (listed([chat(*p) for p in enumerate(CAPTIONS)], "chat.jsonl"), "captions from messages"),
}


@pytest.mark.parametrize("name", OWNED)
def test_captions_and_images_of_what_people_own(name: str, tmp_path: Path) -> None:
    write, told = OWNED[name]
    path = write(tmp_path)
    if name.endswith(".json"):
        path = path.rename(path.with_suffix(".json"))
    source, faults = open_source(InputOptions(input=str(path))), list[str]()
    rows = [row for file in source.files for row in source.rows(file, faults=faults)]
    assert tuple(row.caption for row in rows) == CAPTIONS
    assert told in source.describe()
    statuses = []
    for file in source.files:
        root, own = source.located(file, faults=faults)
        images = read_images(list(own), format=source.format, faults=faults, root=root)
        statuses += [status for _, status in images]
    assert (statuses, faults) == (["ok", "ok"], [])


def rows_of(path: Path, **options: Any) -> list[tuple[str, str | None]]:
    source = open_source(InputOptions(input=str(path), **options))
    return [(row.caption, row.image) for file in source.files for row in source.rows(file, faults=[])]


def test_the_split_that_is_asked_for(tmp_path: Path) -> None:
    assert rows_of(hub(tmp_path), split="test") == [("of the test", "image[0]")]
    with pytest.raises(UserError, match=r"no split 'dev'; it has: test, train"):
        rows_of(tmp_path, split="dev")
    (tmp_path / "k").mkdir()
    assert rows_of(karpathy(tmp_path / "k"), split="test") == [("a cat, asleep", "val2014/1.png")]
    with pytest.raises(UserError, match=r"no split 'dev'; it has: test, train"):
        rows_of(tmp_path / "k/dataset_coco.json", split="dev")


def test_image_column_and_root(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("filepath,photo,caption\nx.png,1.png,a dog\n")
    picture(tmp_path / "elsewhere/1.png")
    (tmp_path / "b").mkdir()
    found = rows_of(tmp_path / "a.csv", image_column="photo", image_root=tmp_path / "elsewhere")
    assert found == [("a dog", "elsewhere/1.png")]
    with pytest.raises(UserError, match=r"no column 'picture'; it has: filepath, photo, caption"):
        rows_of(tmp_path / "a.csv", image_column="picture")
    with pytest.raises(UserError, match="which has no columns of images"):
        rows_of(tar(tmp_path), image_column="jpg")


def test_the_root_does_not_change_keys(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("filepath\ttitle\n1.png\ta dog\n")
    options = InputOptions(input=str(tmp_path / "a.tsv"))
    (before,) = open_source(options).rows(tmp_path / "a.tsv", faults=[])
    picture(tmp_path / "images/1.png")
    (after,) = open_source(options).rows(tmp_path / "a.tsv", faults=[])
    assert (before.image, after.image) == ("1.png", "images/1.png")
    assert before.key == after.key


def test_headers_are_told_from_captions(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("title\thttp://x/1.jpg\na text\thttp://x/2.jpg\n")
    assert rows_of(tmp_path / "a.tsv") == [("title", "http://x/1.jpg"), ("a text", "http://x/2.jpg")]
    (tmp_path / "a.txt").write_text("a dog\na cat, asleep\n")
    assert rows_of(tmp_path / "a.txt") == [("a dog", None), ("a cat, asleep", None)]


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("filepath\ttitle\n1.png\ta dog\n")
    assert open_source(InputOptions(input=str(tmp_path / "a.tsv"))).describe().endswith("give --image-root)")
    (tmp_path / "b.tsv").write_text("a dog\thttp://x/1\n")
    assert (
        "URLs: shards will hold texts alone"
        in open_source(InputOptions(input=str(tmp_path / "b.tsv"))).describe()
    )
    with pytest.raises(UserError, match="COCO's boxes, not captions"):
        rows_of(coco(tmp_path) / "annotations/instances_val2017.json")
