"""What --shards, --manifest and --templates mean to a command that trains or poisons."""

from pathlib import Path

from pipeline.errors import UserError
from trainer.classes import find_class
from trainer.manifests import WEBDATASET, DataManifest, default_templates

TRAINING_SPLIT = "train"


def training_shards(shards: str | None, manifest: DataManifest | None) -> str:
    """The shard pattern: as given, else the manifest's training split; UserError where there is none to train on."""
    if shards is not None:
        return shards
    if manifest is None:
        raise UserError("which shards? give --shards, or --manifest with a training split")
    if TRAINING_SPLIT not in manifest.splits:
        raise UserError(f"the manifest {manifest.path} names no training shards (splits.{TRAINING_SPLIT})")
    if manifest.format != WEBDATASET:
        raise UserError(
            f"{manifest.path} describes {manifest.format} files: pack them as WebDataset to train on them"
        )
    return manifest.pattern(TRAINING_SPLIT)


def read_templates(
    templates: Path | None, manifest: DataManifest | None, *, target: str, needed: bool = True
) -> tuple[str, ...]:
    """Caption templates: the file's lines, else the manifest's, else ImageNet's; the target must be among its classes.

    Where none are `needed`, none are given back; the target is checked all the same.
    """
    if manifest is not None and manifest.classnames:
        find_class(target, manifest.classnames, of=manifest.name)
    if not needed:
        return ()
    if templates is not None:
        return read_lines(templates)
    return (manifest.templates if manifest is not None else ()) or default_templates()


def read_lines(path: Path) -> tuple[str, ...]:
    """The lines of a text file that are not blank, stripped; UserError where it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as lines of text: {error}") from None
    return tuple(line.strip() for line in lines if line.strip())
