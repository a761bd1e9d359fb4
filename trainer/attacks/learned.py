"""Triggers that are trained, optimised or imported: what each needs beside its options, checked, and its maker called.

Behind `trainer craft-trigger ssba | badclip | imported`. Those that need no data are made by `craft_trigger` of this
package.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from pipeline.errors import UserError
from trainer.attacks import DEFAULT_IMAGE_SIZE
from trainer.attacks.badclip_training import BadClipOptions, optimise_badclip
from trainer.attacks.imported import import_images
from trainer.attacks.ssba_training import SsbaOptions, train_ssba
from trainer.attacks.trigger import Trigger
from trainer.devices import find_device
from trainer.manifests import DataManifest, default_templates, require_manifest
from trainer.model import load_model, require_weights
from trainer.training_inputs import training_shards


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What a trigger is learned from. Each kind takes some of them; None: not given."""

    shards: str | None = None
    """ssba, badclip: images (and captions) to learn from, or --manifest. WebDataset shards: file, folder, glob or
    braces; several joined by '::'."""
    manifest: str | None = None
    """ssba, badclip: a data manifest (a .json, or a shipped one's name): its training shards; badclip: its classes."""
    checkpoint: Path | None = None
    """badclip: the clean model's weights."""
    model: str | None = None
    """badclip: the clean model's name, where the weights do not say it."""
    target: str | None = None
    """badclip: the class to aim at."""
    images: Path | None = None
    """imported: a folder or tar of poisoned images, named by their keys."""
    device: str | None = None
    """badclip: auto, cpu, cuda, cuda:N."""

    def describe(self) -> DataManifest | None:
        """The manifest, read; None where none is given."""
        return None if self.manifest is None else require_manifest(self.manifest)


@dataclass(frozen=True, slots=True)
class _Kind:
    sources: tuple[str, ...]
    options: tuple[str, ...]


def _names(options: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(options))


LEARNED_OPTIONS: Final[dict[str, type[Any]]] = {"ssba": SsbaOptions, "badclip": BadClipOptions}
"""What each learned kind may be changed in."""
LEARNED: Final = {
    "ssba": _Kind(("shards", "manifest"), _names(SsbaOptions)),
    "badclip": _Kind(
        ("shards", "manifest", "checkpoint", "model", "target", "device"), _names(BadClipOptions)
    ),
    "imported": _Kind(("images",), ()),
}
"""What each kind takes."""


def learn_trigger(
    kind: str, sources: Sources, *, image_size: int | None, seed: int, changes: Mapping[str, Any]
) -> Trigger:
    """The trigger of that kind of `LEARNED`; `changes` to its options; size None: 224 pixels, or the clean model's.

    Raises:
        UserError: Something that the kind needs is missing, or something is given that it does not take.
    """
    given = [name for name in _names(Sources) if getattr(sources, name) is not None]
    _check_taken(kind, [*given, *changes])
    if kind == "badclip":
        return _learn_badclip(sources, BadClipOptions(**changes), image_size=image_size, seed=seed)
    size = DEFAULT_IMAGE_SIZE if image_size is None else image_size
    if size < 1:
        raise UserError(f"the image size must be at least 1 pixel, not {size}")
    if kind == "ssba":
        shards = training_shards(sources.shards, sources.describe())
        return train_ssba(SsbaOptions(**changes), shards=shards, image_size=size, seed=seed)
    if sources.images is None:
        raise UserError(
            "which images? give --images FOLDER_OR_TAR, poisoned elsewhere and named by their keys"
        )
    return import_images(sources.images, image_size=size)


def _learn_badclip(
    sources: Sources, options: BadClipOptions, *, image_size: int | None, seed: int
) -> Trigger:
    described = sources.describe()
    shards = training_shards(sources.shards, described)
    if described is None or not described.classnames:
        raise UserError(
            "among which classes does the clean model choose? give --manifest, a data manifest with class names"
        )
    if sources.target is None:
        raise UserError("which class does the trigger aim at? give --target")
    require_weights(sources.model, sources.checkpoint)
    clip = load_model(sources.model, checkpoint=sources.checkpoint)
    if image_size not in (None, clip.image_size):
        raise UserError(f"{clip.name} takes images of {clip.image_size} pixels: leave out --image-size")
    clip.model.to(find_device(sources.device or "auto"))
    return optimise_badclip(
        clip,
        options,
        shards=shards,
        target=sources.target,
        classnames=described.classnames,
        templates=described.templates or default_templates(),
        seed=seed,
    )


def _check_taken(kind: str, given: list[str]) -> None:
    taken = (*LEARNED[kind].sources, *LEARNED[kind].options)
    for name in given:
        if name not in taken:
            known = ", ".join("--" + other.replace("_", "-") for other in taken)
            raise UserError(f"{kind} takes no --{name.replace('_', '-')}: it takes {known}")
