"""Labelled images for evaluation: a split of a data manifest, or shards with `.cls` members and class names.

Images are streamed as the model takes them, uint8 and resized, so that a trigger can be put in before they are
normalised. What cannot be used is counted and named, never silently dropped. Used by `zero_shot`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor

from pipeline.errors import UserError
from pipeline.storage import read_json, read_tar, sha256_file
from trainer.data import IMAGE_EXTENSIONS, find_shards
from trainer.images import BrokenImage, decode

DEFAULT_TEMPLATES: Final = (
    "a photo of a {}.",
    "a picture of a {}.",
    "a drawing of a {}.",
    "an image of the {}.",
)
"""For shards that come without a manifest's templates."""
_WANTED: Final = frozenset((*IMAGE_EXTENSIONS, "cls"))


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledBatch:
    """Some images with their classes."""

    keys: tuple[str, ...]
    image_N3HW: Tensor
    """uint8, at the model's size."""
    label_N: Tensor
    """int64 indices into the class names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImages:
    """Where labelled images are, what their classes are called, and how to ask for them."""

    name: str
    shards: tuple[Path, ...]
    classnames: tuple[str, ...]
    templates: tuple[str, ...]
    """Prompts with one `{}` for the class name."""
    faults: list[str] = field(default_factory=list, compare=False)
    """What the last reading left out, named."""

    def __post_init__(self) -> None:
        if len(self.classnames) < 2:
            raise UserError(
                f"{self.name}: zero-shot classification needs at least 2 classes, not {len(self.classnames)}"
            )
        twice = sorted({name for name in self.classnames if self.classnames.count(name) > 1})
        if twice:
            raise UserError(f"{self.name}: the class {twice[0]!r} is named more than once")
        wrong = [template for template in self.templates if template.count("{}") != 1]
        if wrong or not self.templates:
            raise UserError(
                f"{self.name}: a template needs exactly one {{}} for the class, not {wrong[:1] or 'none at all'}"
            )

    def label_of(self, target: str) -> int:
        """The target's index; UserError where no class is called so."""
        if target in self.classnames:
            return self.classnames.index(target)
        near = [name for name in self.classnames if target.lower() in name.lower()][:3] or self.classnames[:5]
        raise UserError(
            f"the target {target!r} is not among the {len(self.classnames)} classes of {self.name}; "
            f"there are: {', '.join(near)}, ..."
        )

    def batches(self, resize: Callable[[Image.Image], Tensor], *, batch_size: int) -> Iterator[LabelledBatch]:
        """Every usable image once, in the shards' order, `batch_size` at a time; what is not goes to `faults`.

        Raises:
            UserError: A label that no class name stands for, or no usable image at all.
        """
        self.faults.clear()
        keys: list[str] = []
        images: list[Tensor] = []
        labels: list[int] = []
        found = False
        for key, image, label in self._samples():
            keys.append(key)
            images.append(resize(image))
            labels.append(label)
            if len(keys) == batch_size:
                yield _to_batch(keys, images, labels)
                keys, images, labels, found = [], [], [], True
        if keys:
            yield _to_batch(keys, images, labels)
        elif not found:
            told = f"; the first problem: {self.faults[0]}" if self.faults else ""
            raise UserError(
                f"{self.name} has no labelled image (a sample needs an image and a .cls member){told}"
            )

    def _samples(self) -> Iterator[tuple[str, Image.Image, int]]:
        for shard in self.shards:
            for sample in read_tar(shard, wanted=_WANTED, faults=self.faults):
                name = f"{shard.name}: {sample.key}"
                data = next((sample.members[e] for e in IMAGE_EXTENSIONS if e in sample.members), None)
                label = sample.members.get("cls")
                if data is None or label is None:
                    self.faults.append(f"{name}: no {'image' if data is None else '.cls label'}")
                    continue
                try:
                    yield sample.key, decode(data), self._check_label(label, name)
                except BrokenImage as error:
                    self.faults.append(f"{name}: {error}")

    def _check_label(self, data: bytes, name: str) -> int:
        text = data.decode("ascii", errors="replace").strip()
        if not text.isdigit() or not int(text[:9]) < len(self.classnames):
            raise UserError(
                f"{name} has the label {text[:20]!r}, and the {len(self.classnames)} class names of {self.name} "
                f"stand for 0 to {len(self.classnames) - 1}: is it another set's list of classes?"
            )
        return int(text)


def load_labelled(
    source: str,
    *,
    split: str = "test",
    root: Path | None = None,
    classnames: Sequence[str] | None = None,
    templates: Sequence[str] | None = None,
) -> LabelledImages:
    """The labelled images of a manifest (`*.json`) or of shards (then `classnames` are needed).

    A manifest's paths are relative to `root`, by default to the manifest's own folder. `classnames` and `templates`
    replace the manifest's own. Hashes that the manifest states are checked.

    Raises:
        UserError: No such file or split, a changed shard, or class names missing.
    """
    path = Path(source).expanduser()
    if path.suffix == ".json":
        return _from_manifest(
            path, split=split, root=root or path.parent, classnames=classnames, templates=templates
        )
    if classnames is None:
        raise UserError(
            f"{source} are shards without class names: give a data manifest, or a file of class names"
        )
    return LabelledImages(
        name=source,
        shards=find_shards(source),
        classnames=tuple(classnames),
        templates=tuple(templates or DEFAULT_TEMPLATES),
    )


def _from_manifest(
    path: Path, *, split: str, root: Path, classnames: Sequence[str] | None, templates: Sequence[str] | None
) -> LabelledImages:
    if not path.is_file():
        raise UserError(f"there is no data manifest {path}")
    manifest = read_json(path)
    try:
        splits: Mapping[str, Any] = manifest["splits"]
        if split not in splits:
            raise UserError(f"{path} has no split {split!r}; it has: {', '.join(splits)}")
        if manifest.get("format", "webdataset") != "webdataset":
            raise UserError(
                f"{path} describes {manifest['format']} files: pack them as WebDataset to evaluate on them"
            )
        names = classnames or manifest.get("classnames")
        if not names:
            raise UserError(f"{path} has no class names: give a file of them, or a data set with labels")
        pattern = "::".join(str(root / part) for part in str(splits[split]["shards"]).split("::"))
        data = LabelledImages(
            name=str(manifest["name"]),
            shards=find_shards(pattern),
            classnames=tuple(map(str, names)),
            templates=tuple(map(str, templates or manifest.get("templates") or DEFAULT_TEMPLATES)),
        )
        _check_hashes(path, root, dict(splits[split].get("sha256", {})))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no data manifest (splits, shards, classnames: see docs/format.md): {error}"
        ) from error
    return data


def _check_hashes(path: Path, root: Path, hashes: Mapping[str, str]) -> None:
    for name, expected in hashes.items():
        found = sha256_file(root / name) if (root / name).is_file() else "missing"
        if found != expected:
            raise UserError(
                f"{root / name} is not the file that {path.name} describes (its sha256: {found[:16]})"
            )


def read_classnames(path: Path) -> tuple[str, ...]:
    """Class names from a text file, one a line in the labels' order, or from a JSON list; UserError otherwise."""
    try:
        text = path.read_text(encoding="utf-8")
        names = (
            json.loads(text)
            if path.suffix == ".json"
            else [line.strip() for line in text.splitlines() if line.strip()]
        )
    except OSError as error:
        raise UserError(f"the class names in {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is neither a JSON list nor lines of text: {error}") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path} must hold a JSON list of class names")
    return tuple(names)


def _to_batch(keys: list[str], images: list[Tensor], labels: list[int]) -> LabelledBatch:
    return LabelledBatch(keys=tuple(keys), image_N3HW=torch.stack(images), label_N=torch.tensor(labels))
