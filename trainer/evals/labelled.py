"""Labelled images for evaluation: a split of a data manifest, shards with `.cls` members, or what `loose_sets` finds.

Images are streamed as the model takes them, uint8 and resized, so that a trigger can be put in before they are
normalised. What cannot be used is counted and named, never silently dropped; labels are all checked before the first
image is decoded. Used by `zero_shot`, `linear_probe` and `data_check`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from pipeline.errors import UserError
from trainer.classes import find_class
from trainer.data import find_shards
from trainer.evals.loose_sets import (
    Layout,
    LooseSet,
    find_loose,
    read_class_file,
    read_class_folders,
    read_label_table,
)
from trainer.evals.samples import RawLabelled, read_labelled_parquet, read_labelled_tar
from trainer.images import BrokenImage, decode
from trainer.manifests import (
    PARQUET,
    WEBDATASET,
    DataManifest,
    check_hashes,
    default_templates,
    open_manifest,
)
from trainer.training_inputs import read_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledBatch:
    """Some images with their classes."""

    keys: tuple[str, ...]
    image_N3HW: Tensor
    """uint8, at the model's size."""
    label_N: Tensor
    """int64 indices into the class names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScan:
    """What the labels of a set say, without one image decoded."""

    num_samples: int
    """Those without image or label included."""
    num_per_class: tuple[int, ...]
    """Samples with image and label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImages:
    """Where labelled images are, what their classes are called, and how to ask for them."""

    name: str
    shards: tuple[Path, ...]
    classnames: tuple[str, ...]
    templates: tuple[str, ...]
    """Prompts with one `{}` for the class name."""
    layout: Layout = WEBDATASET
    columns: Mapping[str, str] | None = None
    """Of Parquet files."""
    class_ids: tuple[str, ...] = ()
    """What stands for a class in the files beside its number."""
    told: str = ""
    """What was recognised, where no manifest says it."""
    limit: int | None = None
    """Samples that are looked at, spread evenly over all. Default: all."""
    faults: list[str] = field(default_factory=list, compare=False)
    """What the last reading left out, named."""

    def __post_init__(self) -> None:
        if len(self.classnames) < 2:
            raise UserError(
                f"{self.name}: classification needs at least 2 classes, not {len(self.classnames)}"
            )
        wrong = [template for template in self.templates if template.count("{}") != 1]
        if wrong or not self.templates:
            raise UserError(
                f"{self.name}: a template needs exactly one {{}} for the class, not {wrong[:1] or 'none at all'}"
            )

    def label_of(self, target: str) -> int:
        """The target's index; UserError where no class is called so, or several are."""
        return find_class(target, self.classnames, of=self.name)

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
        for key, image, label in self.decoded():
            keys.append(key)
            images.append(resize(image))
            labels.append(label)
            if len(keys) == batch_size:
                yield _to_batch(keys, images, labels)
                keys, images, labels, found = [], [], [], True
        if keys:
            yield _to_batch(keys, images, labels)
        elif not found:
            raise self._empty()

    def scan(self) -> LabelScan:
        """Counts samples and labels without decoding an image; faults as in `batches`.

        Raises:
            UserError: A label that no class name stands for, or no sample with image and label.
        """
        self.faults.clear()
        counts = [0] * len(self.classnames)
        num_samples = 0
        for raw in self._raw(images=False):
            num_samples += 1
            if raw.has_image and raw.label is not None:
                counts[self._label(raw)] += 1
        if not any(counts):
            raise self._empty()
        return LabelScan(num_samples=num_samples, num_per_class=tuple(counts))

    def decoded(self) -> Iterator[tuple[str, Image.Image, int]]:
        """Key, image and label of every usable sample, one after the other."""
        for raw in self._some(self._raw(images=True)):
            if raw.image is None or raw.label is None:
                continue  # named by the reader
            try:
                yield raw.key, decode(raw.image), self._label(raw)
            except BrokenImage as error:
                self.faults.append(f"{raw.name}: {error}")

    def _some(self, samples: Iterator[RawLabelled]) -> Iterator[RawLabelled]:
        if self.limit is None:
            return samples
        total = replace(self, faults=[]).scan().num_samples
        limit = min(self.limit, total)
        return (raw for n, raw in enumerate(samples) if (n + 1) * limit // total > n * limit // total)

    def _raw(self, *, images: bool) -> Iterator[RawLabelled]:
        readers: dict[Layout, Callable[..., Iterator[RawLabelled]]] = {
            "webdataset": read_labelled_tar,
            "parquet": partial(read_labelled_parquet, columns=self.columns or {}),
            "folders": partial(read_class_folders, names=self.class_ids),
            "table": read_label_table,
        }
        for shard in self.shards:
            yield from readers[self.layout](shard, images=images, faults=self.faults)

    def _label(self, raw: RawLabelled) -> int:
        assert raw.label is not None
        if raw.label in self.class_ids:
            return self.class_ids.index(raw.label)
        text = raw.label
        in_range = text.isascii() and text.isdigit() and len(text) < 10 and int(text) < len(self.classnames)
        if not in_range:
            raise UserError(
                f"{raw.name} has the label {text[:20]!r}, and the {len(self.classnames)} class names of "
                f"{self.name} stand for 0 to {len(self.classnames) - 1}: is it another set's list of classes?"
            )
        return int(text)

    def _empty(self) -> UserError:
        told = f"; the first problem: {self.faults[0]}" if self.faults else ""
        return UserError(
            f"{self.name} has no labelled image (a sample needs an image and a .cls member){told}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DataChoice:
    """Which images, of which classes, prompted how."""

    data: str
    """A data manifest (a .json, or a shipped one's name), shards with .cls members, a folder of class folders, a table
    of images and labels (CleanCLIP's labels.csv), or Hugging Face's Parquet."""
    split: str = "test"
    """Which of the manifest's splits, or of the folder's."""
    root: Path | None = None
    """Where the manifest's files are. Default: the manifest's own folder; of a shipped one, this folder."""
    classnames: Path | None = None
    """Class names, one a line, a JSON list or CleanCLIP's classes.py. Default: the set's own, else its folders'."""
    templates: Path | None = None
    """Prompts, one a line, {} for the class. Default: the manifest's, or ImageNet's 80."""
    limit: int | None = None
    """Samples to look at, spread evenly over all. Default: all."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UserError(f"limit must be at least 1, not {self.limit}")

    def load(self) -> "LabelledImages":
        """The images; UserError as `load_labelled` raises it."""
        data = load_labelled(
            self.data,
            split=self.split,
            root=self.root,
            classnames=None if self.classnames is None else read_classnames(self.classnames),
            templates=None if self.templates is None else read_lines(self.templates),
        )
        return replace(data, limit=self.limit)


def load_labelled(
    source: str,
    *,
    split: str = "test",
    root: Path | None = None,
    classnames: Sequence[str] | None = None,
    templates: Sequence[str] | None = None,
) -> LabelledImages:
    """The labelled images of a manifest (a `*.json` or a shipped one's name) or of shards (then with `classnames`).

    A manifest's paths are relative to `root`, by default to the manifest's own folder (a shipped one's: to this
    folder). `classnames` and `templates` replace the manifest's own. Hashes and counts that the manifest states are
    checked, and every label is, before any image is decoded.

    Raises:
        UserError: No such file or split, a changed shard, a sample too few, class names missing, or another number
            of them than the set has.
    """
    manifest = open_manifest(source, root=root)
    if manifest is not None:
        return _from_manifest(manifest, split=split, classnames=classnames, templates=templates)
    loose = find_loose(source if root is None else str(root / source), split=split)
    if loose is not None:
        return _from_loose(loose, source, classnames=classnames, templates=templates)
    if classnames is None:
        raise UserError(
            f"{source} are shards without class names: give a data manifest, or a file of class names"
        )
    data = LabelledImages(
        name=source,
        shards=find_shards(source),
        classnames=tuple(classnames),
        templates=tuple(default_templates() if templates is None else templates),
    )
    data.scan()
    return data


def _from_loose(
    loose: LooseSet, source: str, *, classnames: Sequence[str] | None, templates: Sequence[str] | None
) -> LabelledImages:
    names = tuple(loose.classnames if classnames is None else classnames)
    if not names:
        raise UserError(
            f"{loose.told}: what are the classes called? give --classnames, a file of their names"
        )
    if loose.class_ids and len(names) != len(loose.class_ids):
        raise UserError(
            f"there are {len(names)} class names, and {source} has {len(loose.class_ids)} classes"
        )
    data = LabelledImages(
        name=source,
        shards=loose.files,
        classnames=names,
        templates=tuple(loose.templates or default_templates() if templates is None else templates),
        layout=loose.layout,
        columns=loose.columns,
        class_ids=loose.class_ids,
        told=loose.told,
    )
    data.scan()
    return data


def describe_labelled(
    manifest: DataManifest,
    *,
    split: str,
    classnames: Sequence[str] | None = None,
    templates: Sequence[str] | None = None,
) -> LabelledImages:
    """A split of a manifest with classes, its files found but not read yet; UserError where it has no classes."""
    manifest.split(split)
    if manifest.format not in (WEBDATASET, PARQUET):
        raise UserError(
            f"{manifest.path} describes {manifest.format} files: pack them as WebDataset to evaluate on them"
        )
    names = tuple(manifest.classnames if classnames is None else classnames)
    if manifest.classnames and len(names) != len(manifest.classnames):
        raise UserError(
            f"there are {len(names)} class names, and {manifest.name} has {len(manifest.classnames)} classes"
        )
    if not names:
        raise UserError(f"{manifest.path} has no class names: give a file of them, or a data set with labels")
    parquet = manifest.format == PARQUET
    return LabelledImages(
        name=manifest.name,
        shards=manifest.files(split),
        classnames=names,
        templates=tuple(manifest.templates or default_templates() if templates is None else templates),
        layout=PARQUET if parquet else WEBDATASET,
        columns=manifest.columns if parquet else None,
        class_ids=manifest.class_ids or (manifest.classnames if parquet else ()),
    )


def _from_manifest(
    manifest: DataManifest,
    *,
    split: str,
    classnames: Sequence[str] | None,
    templates: Sequence[str] | None,
) -> LabelledImages:
    data = describe_labelled(manifest, split=split, classnames=classnames, templates=templates)
    changed = next(check_hashes(manifest, split), None)
    if changed is not None:
        raise UserError(changed)
    scan, expected = data.scan(), manifest.split(split).num_samples
    if expected is not None and scan.num_samples != expected:
        told = f"; the first problem: {data.faults[0]}" if data.faults else ""
        raise UserError(
            f"{manifest.name} has {expected:,} samples in {split}, and there are {scan.num_samples:,} below "
            f"{manifest.root}: `trainer data check` says what is missing{told}"
        )
    return data


def read_classnames(path: Path) -> tuple[str, ...]:
    """Class names from a text file, one a line in the labels' order, a JSON list, or CleanCLIP's classes.py."""
    return read_class_file(path)[0]


def _to_batch(keys: list[str], images: list[Tensor], labels: list[int]) -> LabelledBatch:
    return LabelledBatch(keys=tuple(keys), image_N3HW=torch.stack(images), label_N=torch.tensor(labels))
