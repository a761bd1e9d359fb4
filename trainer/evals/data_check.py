"""Is a local copy of a data set the one that its manifest describes? What is missing or other, a line each.

`trainer data check` prints what `check_data` finds: files and their hashes, counts, labels in range, classes without
an image, samples without image, label or caption, and images that cannot be decoded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from pipeline.errors import UserError
from pipeline.storage import IMAGE_EXTENSIONS, open_text, read_json, read_tar
from trainer.evals.labelled import describe_labelled
from trainer.evals.samples import read_captioned_tar, read_labelled_parquet
from trainer.images import BrokenImage, decode
from trainer.manifests import PARQUET, WEBDATASET, DataManifest, check_hashes

SAMPLED: Final = 200
"""Images of a split that are decoded where not all are asked for, evenly from the beginnings of its files."""
MAX_LINES: Final = 20
"""Faults of a split that get a line; the rest are counted in one."""


@dataclass(slots=True)
class SplitCheck:
    """What was found of one split."""

    name: str
    num_files: int = 0
    num_samples: int | None = None
    num_classes: int = 0
    """With at least one image; 0 for sets without classes."""
    num_decoded: int = 0
    problems: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """The split in a line."""
        told = _counted(len(self.problems), "problem") if self.problems else "as described"
        if self.num_samples is None:
            return f"{self.name}: {told}"
        parts = [_counted(self.num_files, "file"), _counted(self.num_samples, "sample")]
        parts += [_counted(self.num_classes, "class")] if self.num_classes else []
        parts += [f"{_counted(self.num_decoded, 'image')} decoded"] if self.num_decoded else []
        return f"{self.name}: {', '.join(parts)}: {told}"


def check_data(manifest: DataManifest, *, splits: Sequence[str] = (), full: bool = False) -> list[SplitCheck]:
    """Checks the splits (default: all); `full` decodes every image.

    Raises:
        UserError: A split that the manifest does not have. What is wrong with the copy is a problem, no error.
    """
    return [_check_split(manifest, name, full=full) for name in splits or manifest.splits]


def _check_split(manifest: DataManifest, name: str, *, full: bool) -> SplitCheck:
    split, check = manifest.split(name), SplitCheck(name)
    check.problems += [f"{name}: {problem}" for problem in check_hashes(manifest, name)]
    try:
        files = manifest.files(name)
        check.num_files = len(files)
        faults = _scan(manifest, check, files)
    except UserError as error:
        if not any("is missing" in problem for problem in check.problems):
            check.problems.append(f"{name}: {error}")
        return check
    if split.num_samples is not None and check.num_samples != split.num_samples:
        check.problems.append(
            f"{name}: {check.num_samples:,} samples instead of {split.num_samples:,} in {split.shards}"
        )
    faults += _decode(manifest, check, files, full=full)
    check.problems += [f"{name}: {fault}" for fault in faults[:MAX_LINES]]
    if len(faults) > MAX_LINES:
        check.problems.append(f"{name}: and {len(faults) - MAX_LINES:,} more like these")
    return check


def _scan(manifest: DataManifest, check: SplitCheck, files: tuple[Path, ...]) -> list[str]:
    """Counts the split's samples into `check`; what is wrong with some of them."""
    faults: list[str] = []
    if manifest.format == "coco-json":
        check.num_samples = sum(len(_annotations(file)) for file in files)
    elif manifest.format not in (WEBDATASET, PARQUET):
        check.num_samples = sum(_count_lines(file, manifest.format, faults) for file in files)
    elif manifest.classnames and (manifest.format == PARQUET or _has_labels(files)):
        data = describe_labelled(manifest, split=check.name)
        scan = data.scan()
        check.num_samples = scan.num_samples
        empty = [name for name, num in zip(data.classnames, scan.num_per_class, strict=True) if not num]
        check.num_classes = len(data.classnames) - len(empty)
        faults += data.faults
        if empty:
            some = ", ".join(empty[:3]) + (", ..." if empty[3:] else "")
            faults.append(f"{len(empty):,} of {len(data.classnames):,} classes have no image: {some}")
    else:
        check.num_samples = sum(
            1 for file in files for _ in read_captioned_tar(file, images=False, faults=faults)
        )
    return faults


def _has_labels(files: tuple[Path, ...]) -> bool:
    """Whether the first sample has a `.cls`: a manifest's training split may have captions in its stead."""
    for file in files:
        for sample in read_tar(file, wanted=frozenset(), faults=[]):
            return "cls" in sample.names
    return True


def _annotations(file: Path) -> list[object]:
    content = read_json(file)
    found = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(found, list):
        raise UserError(f"{file} holds no COCO annotations")
    return found


def _count_lines(file: Path, format_name: str, faults: list[str]) -> int:
    number = 0
    with open_text(file) as lines:
        for number, line in enumerate(lines, start=1):
            if format_name == "cc3m-tsv" and line.count("\t") != 1:
                faults.append(f"{file.name}: line {number} is not caption, tab, URL")
    return number


def _decode(manifest: DataManifest, check: SplitCheck, files: tuple[Path, ...], *, full: bool) -> list[str]:
    """Decodes images and counts them into `check`; a line for each that is broken."""
    if manifest.format not in (WEBDATASET, PARQUET):
        return []
    faults = []
    per_file = None if full else -(-SAMPLED // len(files))
    for file in files:
        for name, data in islice(_images(manifest, file), per_file):
            check.num_decoded += 1
            try:
                decode(data)
            except BrokenImage as error:
                faults.append(f"{name}: {error}")
    return faults


def _images(manifest: DataManifest, file: Path) -> Iterator[tuple[str, bytes]]:
    if manifest.format == PARQUET:
        for raw in read_labelled_parquet(file, columns=manifest.columns, images=True, faults=[]):
            if raw.image is not None:
                yield raw.name, raw.image
        return
    for sample in read_tar(file, wanted=frozenset(IMAGE_EXTENSIONS), faults=[]):
        for data in sample.members.values():
            yield f"{file.name}: {sample.key}", data


def _counted(number: int, noun: str) -> str:
    plural = "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{plural if number != 1 else ''}"
