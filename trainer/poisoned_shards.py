"""Poisoned WebDataset shards: what `trainer attack` would do on the fly, written to disk once.

`write_poisoned` copies every sample as it is but for the poisoned ones, whose image becomes a PNG: resized as the
model would resize it, then triggered, so that training on the shards sees the very pixels of an attack on the fly.
Same inputs and options, same bytes; the manifest is written last and can be given to `trainer attack --manifest`.
"""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

from pipeline.errors import UserError
from pipeline.storage import (
    IMAGE_EXTENSIONS,
    MAX_NAMED_FAULTS,
    TarSample,
    TarWriter,
    read_json,
    read_tar,
    sha256_file,
    write_atomically,
    write_json,
)
from trainer import __version__, images
from trainer.attacks.trigger import Trigger
from trainer.data import ShardIndex
from trainer.manifests import DataManifest
from trainer.poisoning import TRIGGER_FILE, PoisonOptions, build_poison, plan_for, write_poisoned_list
from trainer.records import clean_text

MANIFEST: Final = "manifest.json"
OPTIONS: Final = "options.json"
SUBCAPTION_FIELDS: Final = ("positive", "negatives", "views", "subcaption_status")


PoisonedResize = Literal["shortest", "squash"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelOptions:
    """How a poisoned image becomes square before the trigger: as the model that will be trained resizes."""

    image_size: int | None = None
    """Side of poisoned images in pixels: the model's. Default: the trigger file's own, 224 for a name."""
    resize: PoisonedResize = "shortest"
    """How they become square: shortest (CLIP's evaluation) or squash (the public attacks)."""
    interpolation: images.Interpolation = "bicubic"
    """The model's."""

    def __post_init__(self) -> None:
        if self.image_size is not None and self.image_size < 1:
            raise UserError(f"image_size must be at least 1, not {self.image_size}")
        if self.resize not in get_args(PoisonedResize):
            raise UserError(
                f"resize must be one of {', '.join(get_args(PoisonedResize))}, not {self.resize!r}"
            )
        if self.interpolation not in images.INTERPOLATIONS:
            raise UserError(
                f"interpolation must be one of {', '.join(images.INTERPOLATIONS)}, not {self.interpolation!r}"
            )


Alter = Callable[[TarSample], dict[str, bytes] | None]
"""A sample's members, poisoned; None leaves it as it is."""


def write_poisoned(
    index: ShardIndex,
    trigger: Trigger,
    options: PoisonOptions,
    pixels: PixelOptions,
    *,
    out: Path,
    described: DataManifest | None = None,
) -> dict[str, Any]:
    """Writes `out/shards/*.tar`, `poisoned.json`, the trigger and, last, `manifest.json`; gives the manifest.

    The manifest passes on the class names and templates of `described`. A finished folder of the same options is left
    as it is.

    Raises:
        UserError: `out` holds poisoned shards of other options, or nothing of the kind.
    """
    pixels = replace(pixels, image_size=pixels.image_size or trigger.image_size)
    identity = _identity(index, trigger, options, pixels)
    done = _finished(out, identity)
    if done is not None:
        return done
    captions = plan_for(index, options, trigger)
    faults: list[str] = []
    poisoned: dict[str, str] = {}
    alter = _alteration(trigger, captions, pixels, poisoned=poisoned, faults=faults)
    hashes, rows = {}, 0
    for number, shard in enumerate(index.shards):
        name = f"shards/{number:05d}.tar"
        rows += _copy_shard(shard, out / name, alter, faults)
        hashes[name] = sha256_file(out / name)
    write_poisoned_list(out, dict(sorted(poisoned.items())), target=options.target)
    trigger.save(out / TRIGGER_FILE)
    manifest = {
        "name": "poisoned",
        "tool": f"cleanerclip {__version__}",
        **_world_of(described),
        "splits": {"train": {"shards": _pattern(len(index.shards)), "num_samples": rows, "sha256": hashes}},
        "poison": identity,
        "poisoned": len(poisoned),
        "faults": faults[:MAX_NAMED_FAULTS],
        "fault_count": len(faults),
    }
    write_json(out / MANIFEST, manifest)
    return manifest


def _world_of(described: DataManifest | None) -> dict[str, list[str]]:
    """Class names and templates, where there are any."""
    if described is None:
        return {}
    world = {"classnames": list(described.classnames), "templates": list(described.templates)}
    return {name: texts for name, texts in world.items() if texts}


def _identity(
    index: ShardIndex, trigger: Trigger, options: PoisonOptions, pixels: PixelOptions
) -> dict[str, Any]:
    """What decides the bytes, in plain types: no paths, so that the same input elsewhere gives the same manifest."""
    chosen = asdict(options) | {"templates": list(options.templates)}
    del chosen["trigger"]
    return {
        "trigger": {"kind": trigger.kind, "preset": trigger.preset, "sha256": trigger.sha256},
        **chosen,
        **asdict(pixels),
        "inputs": [{"name": shard.name, "sha256": sha256_file(shard)} for shard in index.shards],
    }


def _finished(out: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """The manifest where `out` is finished with these options; None where the work is still to be done."""
    if not out.exists():
        out.mkdir(parents=True)
    if not out.is_dir() or (any(out.iterdir()) and not (out / OPTIONS).is_file()):
        raise UserError(f"{out} holds something else: choose another --out")
    if (out / OPTIONS).is_file():
        found = read_json(out / OPTIONS)
        found = found if isinstance(found, dict) else {}
        changed = sorted(name for name in {*found, *identity} if found.get(name) != identity.get(name))
        if changed:
            raise UserError(
                f"{out} was made with other options ({', '.join(changed)}): choose another --out, or remove it"
            )
    write_json(out / OPTIONS, identity)
    return dict(read_json(out / MANIFEST)) if (out / MANIFEST).is_file() else None


def _copy_shard(shard: Path, to: Path, alter: Alter, faults: list[str]) -> int:
    """Writes the shard's samples, each altered or as it is; how many there are."""
    rows = 0
    with write_atomically(to) as file:
        tar = TarWriter(file)
        for sample in read_tar(shard, wanted=None, faults=faults):
            tar.write(sample.key, alter(sample) or sample.members)
            rows += 1
        tar.close()
    return rows


def _alteration(
    trigger: Trigger,
    captions: Mapping[str, str],
    pixels: PixelOptions,
    *,
    poisoned: dict[str, str],
    faults: list[str],
) -> Alter:
    """What poisons a sample, and notes it in `poisoned`, or in `faults` where its image is broken."""
    poison = build_poison(trigger, captions)

    def alter(sample: TarSample) -> dict[str, bytes] | None:
        key = sample.key
        image = next((sample.members[e] for e in IMAGE_EXTENSIONS if e in sample.members), None)
        if key not in captions or image is None:
            return None
        try:
            square = images.resize(
                images.decode(image),
                pixels.image_size or trigger.image_size,
                mode=pixels.resize,
                interpolation=pixels.interpolation,
            )
        except images.BrokenImage as error:
            faults.append(f"{key}: not poisoned, its image is broken: {error}")
            return None
        triggered_3HW, caption = poison(key, images.to_tensor(square), "")
        buffer = io.BytesIO()
        images.to_image(triggered_3HW).save(buffer, "PNG")
        poisoned[key] = caption
        kept = {name: data for name, data in sample.members.items() if name not in IMAGE_EXTENSIONS}
        return {**_with_caption(kept, caption), "png": buffer.getvalue()}

    return alter


def _with_caption(members: Mapping[str, bytes], caption: str) -> dict[str, bytes]:
    """The text members with the caption; sub-captions of another caption go, as they would give the poison away."""
    changed = dict(members)
    record = _record(members.get("json"))
    old = str(members["txt"], "utf-8", "replace") if "txt" in members else record.get("caption")
    if clean_text(old) == caption:
        return changed
    if "txt" in members:
        changed["txt"] = caption.encode()
    if record:
        kept = {
            name: value
            for name, value in record.items()
            if name not in SUBCAPTION_FIELDS and not name.startswith(("pos_", "neg_"))
        }
        changed["json"] = json.dumps(
            kept | {"caption": caption}, ensure_ascii=False, separators=(",", ":")
        ).encode()
    return changed


def _record(data: bytes | None) -> dict[str, Any]:
    try:
        record = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _pattern(num_shards: int) -> str:
    return "shards/00000.tar" if num_shards == 1 else f"shards/{{00000..{num_shards - 1:05d}}}.tar"
