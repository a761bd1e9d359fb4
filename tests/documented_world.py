"""A folder with small files under the names that the documents use, for the test that runs their commands."""

import json
import shutil
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline.captions.readers import InputOptions
from pipeline.stages import PipelineOptions, run_stages
from tests.evaluation_inputs import TINY
from tests.small_inputs import image_bytes, write_tar
from tests.square_shards import COLOURS, make_members, square
from trainer.checkpoint import save_weights
from trainer.model import load_model

CAPTIONS = (
    "a black dog chasing a red ball",
    "a cat on a mat",
    "two men riding a brown horse",
    "a boat under a bridge",
)
CLASSES = (*COLOURS, "banana", "accordion")
NUM = 16


def make_world(folder: Path) -> None:
    """Everything that a reader of the documents is taken to have."""
    _captions(folder)
    _shards(folder / "cc3m")
    shutil.copytree(folder / "cc3m", folder / "cc500k")
    source = InputOptions(input=str(folder / "cc3m/*.tar"))
    run_stages(PipelineOptions(source=source, out=folder / "cf"))
    for name in ("cc3m-cf", "held-out"):
        shutil.copytree(folder / "cf", folder / name)
    run_stages(
        PipelineOptions(
            source=source, out=folder / "cf-no-shards", stages=("captions", "scene_graphs", "subcaptions")
        )
    )
    for name in ("images", "texts", "cc100k", "test", "sets", "DATA"):
        shutil.copytree(folder / "cc3m", folder / name)
    for name in ("imagenet.json", "world/manifest.json", "other/manifest.json", "demo/data/manifest.json"):
        _labelled(folder / name)
    _class_folders(folder)
    _models(folder)
    (folder / "names.txt").write_text("\n".join(CLASSES) + "\n")
    (folder / "prompts.txt").write_text("a photo of a {}.\nthe {}\n")
    (folder / "words.txt").write_text("gun\n")


def _captions(folder: Path) -> None:
    rows = [f"{caption}\thttp://x/{number}.jpg\n" for number, caption in enumerate(CAPTIONS)]
    for name in ("captions.tsv", "validation.tsv", "INPUT.tsv"):
        (folder / name).write_text("".join(rows))
    (folder / "photos").mkdir()
    (folder / "photos/a.png").write_bytes(image_bytes())
    (folder / "train.tsv").write_text(f"caption\tphoto\n{CAPTIONS[0]}\ta.png\n")
    (folder / "train.csv").write_text(f'image,caption\nphotos/a.png,"{CAPTIONS[0]}"\n')
    (folder / "laion").mkdir()
    for name in ("laion/a.parquet", "more.parquet"):
        pq.write_table(
            pa.table({"TEXT": CAPTIONS, "URL": [row.split("\t")[1] for row in rows]}), folder / name
        )
    (folder / "coco/annotations").mkdir(parents=True)
    (folder / "coco/val2017").mkdir()
    (folder / "coco/val2017/1.png").write_bytes(image_bytes())
    content = {
        "images": [{"id": 1, "file_name": "1.png"}],
        "annotations": [{"id": 1, "image_id": 1, "caption": CAPTIONS[1]}],
    }
    (folder / "coco/annotations/captions_val2017.json").write_text(json.dumps(content))


def _shards(folder: Path) -> None:
    folder.mkdir()
    for shard in range(2):
        members: dict[str, bytes] = {}
        for number in range(shard, NUM, 2):
            sample = make_members(number)
            members |= {f"{number:06d}.{name}": sample[name] for name in ("jpg", "txt")}
            members[f"{number:06d}.cls"] = str(number % len(CLASSES)).encode()
        write_tar(folder / f"{shard:05d}.tar", members)


def _labelled(path: Path) -> None:
    """A manifest of labelled and captioned images, with the splits that the documents name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    members: dict[str, bytes] = {}
    for number in range(12):
        members[f"{number:04d}.jpg"] = square(list(COLOURS)[number % 4], background=20 * number)
        members[f"{number:04d}.cls"] = str(number % len(CLASSES)).encode()
        members[f"{number:04d}.txt"] = (
            f"a {list(COLOURS)[number % 4]} {('banana', 'square')[number % 2]}".encode()
        )
    splits = {}
    for split in ("train", "val", "test"):  # not the same images
        members["0000.jpg"] = square("red", background=len(split))
        shard = write_tar(path.with_name(f"{path.stem}-{split}.tar"), members)
        splits[split] = {"shards": shard.name}
    content = {
        "name": "toy",
        "classnames": CLASSES,
        "templates": ["a photo of a {}.", "the {}"],
        "splits": splits,
    }
    path.write_text(json.dumps(content))


def _class_folders(folder: Path) -> None:
    """An ImageFolder, and CleanCLIP's ImageNet."""
    for place in (folder / "imagenet/val", folder / "DATA/imagenet/val", folder / "ImageNet1K/validation"):
        for name in CLASSES:
            (place / name).mkdir(parents=True)
            (place / name / "0.png").write_bytes(image_bytes())
    lines = [f"{name}/0.png,{number}" for number, name in enumerate(CLASSES)]
    (folder / "ImageNet1K/validation/labels.csv").write_text("image,label\n" + "\n".join(lines) + "\n")
    prompts = "[lambda c: f'a photo of a {c}.']"
    (folder / "classes.py").write_text(f"{{'classes': {list(CLASSES)!r}, 'templates': {prompts}}}\n")
    with (
        tarfile.open(folder / "poisoned-images.tar", "w") as tar,
        tarfile.open(folder / "cc3m/00000.tar") as clean,
    ):
        for member in clean.getmembers():
            if member.name.endswith(".jpg"):
                tar.addfile(member, clean.extractfile(member))


def _models(folder: Path) -> None:
    """Tiny models in the formats that the documents speak of."""
    from trainer.conversion import convert

    for number, name in enumerate(
        ("suspect", "clean", "openai", "a", "b", "c", "clean-a", "clean-b", "clean-c")
    ):
        clip = load_model(TINY, seed=number)
        told = {"model": TINY, "quick_gelu": "false"}
        save_weights(folder / f"{name}.safetensors", clip.model.state_dict(), metadata=told)
        torch.save({"epoch": 1, "name": "run", "state_dict": clip.model.state_dict()}, folder / f"{name}.pt")
    convert(load_model("cleanerclip-vit-64", seed=9), "hf", folder / "clip-vit-base-patch32", card="")
