"""Demo data: drawn scenes with captions as WebDataset shards, behind `make demo`, `pipeline demo-data` and tests.

`write_demo_data` writes `OUT/train/{00000..}.tar` (image, caption, facts), `OUT/test/{00000..}.tar` (one thing
each, with its class) and, last, the data manifest `OUT/manifest.json` that `trainer evaluate --data` reads.
Every sample depends on its key and the seed alone, so equal options give equal bytes. First station of the
demo's flow: demo data -> augment-captions -> trainer.
"""

import io
import json
import re
from collections.abc import Iterator, Sequence
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


def make_sample(
    key: str, *, seed: int, image_size: int, label: int | None = None, nouns: Sequence[str] = NOUNS
) -> DemoSample:
    """The sample of this key: the same bytes whenever and in whatever order it is made.

    It shows the noun of `label` alone, or one or two of `nouns`.
    """
    rng = Random(f"{seed}:{key}")
    scene = draw_scene_content(rng, noun=None if label is None else NOUNS[label], nouns=nouns)
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
    out: Path, split: str, num_samples: int, options: "DemoOptions", *, labelled: bool
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
                    seed=options.seed,
                    image_size=options.image_size,
                    label=row % len(NOUNS) if labelled else None,
                    nouns=NOUNS if labelled else options.nouns,
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


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Which scenes, and how many."""

    seed: int = 0
    """Another seed gives other scenes of the same world."""
    num_train: int = 4_000
    """Captioned scenes of one or two things."""
    num_test_per_class: int = 40
    """Labelled scenes of each of the 30 nouns."""
    image_size: int = 64
    """Side of the square images, in pixels."""
    train_nouns: str | None = None
    """The captioned scenes show these nouns alone, joined by commas: what a defender with narrow data has. Default:
    all 30."""

    def __post_init__(self) -> None:
        for name in ("num_train", "num_test_per_class"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(self, name)}")
        if not MIN_SIDE <= self.image_size <= MAX_SIDE:
            raise UserError(f"--image-size must be {MIN_SIDE} to {MAX_SIDE} pixels, not {self.image_size}")
        unknown = [noun for noun in self.nouns if noun not in NOUNS]
        if unknown:
            raise UserError(f"--train-nouns: there is no {unknown[0]!r}; the nouns are {', '.join(NOUNS)}")
        if len(self.nouns) < 2:
            raise UserError("--train-nouns must name at least two: some scenes show two things")

    @property
    def nouns(self) -> tuple[str, ...]:
        """What the captioned scenes show, in the order of NOUNS."""
        if self.train_nouns is None:
            return NOUNS
        named = [noun.strip() for noun in self.train_nouns.split(",")]
        return tuple(sorted(named, key=lambda noun: NOUNS.index(noun) if noun in NOUNS else -1))


def write_demo_data(out: Path, options: DemoOptions | None = None) -> Path:
    """Write drawn scenes with captions below `out`: `train/`, `test/` and, last, the manifest, whose path is returned.

    The folder is made if absent, an earlier call's files are replaced.

    Raises:
        UserError: `out` is a file, or holds another manifest.
    """
    options = options or DemoOptions()
    if out.exists() and not out.is_dir():
        raise UserError(f"--out must be a folder, and {out} is a file")
    _remove_earlier(out)
    splits = {
        "train": _write_split(out, "train", options.num_train, options, labelled=False),
        "test": _write_split(out, "test", options.num_test_per_class * len(NOUNS), options, labelled=True),
    }
    narrow = "" if options.train_nouns is None else f" --train-nouns {','.join(options.nouns)}"
    manifest = {
        "name": "demo-scenes",
        "description": f"Drawn scenes with captions, {options.image_size} px; thirty nouns, twelve colours, four "
        "sizes, three textures, alone or in pairs with a relation.",
        "source": f"pipeline demo-data --seed {options.seed} --num-train {options.num_train} "
        f"--num-test-per-class {options.num_test_per_class} --image-size {options.image_size}{narrow}",
        "licence": "Apache-2.0 (drawn by this program)",
        "classnames": list(NOUNS),
        "templates": list(TEMPLATES),
        "splits": splits,
    }
    if narrow:
        manifest["train_nouns"] = list(options.nouns)
    path = out / "manifest.json"
    write_json(path, manifest)
    return path
