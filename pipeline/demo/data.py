"""Demo data: drawn scenes with captions as WebDataset shards, behind `make demo`, `pipeline demo-data` and tests.

`write_demo_data` writes `OUT/train/{00000..}.tar` (image, caption, facts), `OUT/test/{00000..}.tar` (one thing
each, with its class) and, last, the data manifest `OUT/manifest.json` that `trainer evaluate --data` reads.
Every sample depends on its key and the seed alone, so equal options give equal bytes. First station of the
demo's flow: demo data -> augment-captions -> trainer.
"""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Final

from pipeline.demo.captions import write_caption
from pipeline.demo.drawings import NOUNS
from pipeline.demo.scenes import draw_picture, draw_scene_content
from pipeline.errors import UserError
from pipeline.storage import TarWriter, read_json, sha256_file, write_atomically, write_json

SAMPLES_PER_SHARD: Final = 1_000
MIN_SIDE: Final = 32
MAX_SIDE: Final = 512
JPEG_QUALITY: Final = 92
TEMPLATES: Final = (
    "a photo of a {}.", "a picture of a {}.", "a drawing of a {}.", "a {}.", "a {} on a plain background.",
    "there is a {} in the picture.", "the {}.", "one {}.", "an illustration of a {}.", "a small {}.",
    "a large {}.", "a striped {}.", "a dotted {}.", "a {} , clip art", "a photo of the {}.", "this is a {}.",
)  # fmt: skip
"""Zero-shot prompts: generic ones, and ones that name what the drawn world varies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSample:
    """One scene, ready to be written: the members of a WebDataset sample."""

    key: str
    jpeg: bytes
    caption: str
    facts: str
    """JSON: what the scene shows."""
    label: int | None
    """Index into NOUNS in the test split; None in the train split."""

    def members(self) -> dict[str, bytes]:
        """Contents by extension."""
        members = {"jpg": self.jpeg, "json": self.facts.encode(), "txt": self.caption.encode()}
        return members if self.label is None else members | {"cls": str(self.label).encode()}


def make_sample(key: str, *, seed: int, image_size: int, label: int | None = None) -> DemoSample:
    """The sample of this key: the same bytes whenever and in whatever order it is made."""
    rng = Random(f"{seed}:{key}")
    scene = draw_scene_content(rng, noun=None if label is None else NOUNS[label])
    caption = write_caption(scene, rng)
    buffer = io.BytesIO()
    picture = draw_picture(scene, rng, side=image_size)
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    facts = json.dumps({"key": key, **asdict(scene)}, sort_keys=True)
    return DemoSample(key=key, jpeg=buffer.getvalue(), caption=caption, facts=facts, label=label)


def _write_shard(path: Path, samples: Iterator[DemoSample]) -> str:
    """Write the samples as a tar, whole or not at all; its sha256."""
    with write_atomically(path) as file:
        tar = TarWriter(file)
        for sample in samples:
            tar.write(sample.key, sample.members())
        tar.close()
    return sha256_file(path)


def _write_split(
    out: Path, split: str, num_samples: int, *, seed: int, image_size: int, labelled: bool
) -> dict[str, object]:
    """Write one split's shards; its entry in the manifest."""
    num_shards = -(-num_samples // SAMPLES_PER_SHARD)
    hashes = {}
    for shard in range(num_shards):
        name = f"{split}/{shard:05d}.tar"
        rows = range(shard * SAMPLES_PER_SHARD, min((shard + 1) * SAMPLES_PER_SHARD, num_samples))
        hashes[name] = _write_shard(
            out / name,
            (
                make_sample(
                    f"{split}-{row:07d}",
                    seed=seed,
                    image_size=image_size,
                    label=row % len(NOUNS) if labelled else None,
                )
                for row in rows
            ),
        )
    pattern = f"{split}/00000.tar" if num_shards == 1 else f"{split}/{{00000..{num_shards - 1:05d}}}.tar"
    return {"shards": pattern, "num_samples": num_samples, "sha256": hashes}


def _remove_earlier(out: Path) -> None:
    """Remove what an earlier call wrote here, so that no shard of it is left among the new ones."""
    manifest = out / "manifest.json"
    if not manifest.is_file():
        return
    try:
        splits = read_json(manifest)["splits"]
        written = [str(name) for split in splits.values() for name in split["sha256"]]
    except (UserError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{manifest} is not a manifest of demo data: choose another folder for --out"
        ) from error
    manifest.unlink()
    for name in written:
        if re.fullmatch(r"(train|test)/\d{5}\.tar", name):
            (out / name).unlink(missing_ok=True)


def _check_options(out: Path, num_train: int, num_test_per_class: int, image_size: int) -> None:
    if num_train < 1:
        raise UserError(f"--num-train must be at least 1, not {num_train}")
    if num_test_per_class < 1:
        raise UserError(f"--num-test-per-class must be at least 1, not {num_test_per_class}")
    if not MIN_SIDE <= image_size <= MAX_SIDE:
        raise UserError(f"--image-size must be {MIN_SIDE} to {MAX_SIDE} pixels, not {image_size}")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out must be a folder, and {out} is a file")


def write_demo_data(
    out: Path, *, seed: int = 0, num_train: int = 4_000, num_test_per_class: int = 40, image_size: int = 64
) -> Path:
    """Write drawn scenes with captions below `out`; the path of their manifest.

    Args:
        out: Folder for `train/`, `test/` and `manifest.json`; made if absent, an earlier call's files replaced.
        seed: Another seed gives other scenes of the same world.
        num_train: Captioned scenes of one or two things.
        num_test_per_class: Labelled scenes of one thing for each of the thirty nouns.
        image_size: Side of the square JPEG images, in pixels.

    Raises:
        UserError: A number out of range, or `out` is a file or holds another manifest.
    """
    _check_options(out, num_train, num_test_per_class, image_size)
    _remove_earlier(out)
    splits = {
        "train": _write_split(out, "train", num_train, seed=seed, image_size=image_size, labelled=False),
        "test": _write_split(
            out, "test", num_test_per_class * len(NOUNS), seed=seed, image_size=image_size, labelled=True
        ),
    }
    manifest = {
        "name": "demo-scenes",
        "description": f"Drawn scenes with captions, {image_size} px; thirty nouns, twelve colours, four sizes, "
        "three textures, alone or in pairs with a relation.",
        "source": f"pipeline demo-data --seed {seed} --num-train {num_train} "
        f"--num-test-per-class {num_test_per_class} --image-size {image_size}",
        "licence": "Apache-2.0 (drawn by this program)",
        "classnames": list(NOUNS),
        "templates": list(TEMPLATES),
        "splits": splits,
    }
    path = out / "manifest.json"
    write_json(path, manifest)
    return path
