"""A trigger as an artefact: what is put into an image, as a file that anyone can apply again, pixel by pixel.

`load_trigger` (in this package's `__init__`) makes one by name or reads one from a file; `apply` puts it into uint8
images after they were resized and before they are normalised. Nothing is drawn from a global random generator:
what varies from image to image comes from the trigger's seed and the image's key, or from its pixels where no key
is given. So the same image gets the same trigger, whatever batch it stands in.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipeline.errors import UserError

FORMAT: Final = "cleanerclip-trigger-1"
ORDER: Final = "after resize, before normalisation, on uint8 pixels"

Apply = Callable[["Trigger", Tensor, Sequence[str]], Tensor]
"""(trigger, uint8 images (N, 3, H, W), N tokens that seed what varies) -> new images of the same shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """One trigger, for images of one size."""

    kind: str
    """The family: badnet, ..."""
    preset: str
    """The name it was made by."""
    image_size: int
    """Side of the images it is made for, in pixels."""
    seed: int
    settings: Mapping[str, str | int | float | bool]
    """What the family's `apply` reads beside the tensors."""
    tensors: Mapping[str, Tensor]
    apply_to: Apply = field(compare=False, repr=False)

    def apply(self, images_N3HW: Tensor, *, keys: Sequence[str] | None = None) -> Tensor:
        """The images with the trigger: a new uint8 tensor of the same shape, on the same device.

        `keys` name the images; without them, an image's own pixels stand for its key.
        """
        shape = tuple(images_N3HW.shape)
        if images_N3HW.dtype != torch.uint8 or len(shape) != 4 or shape[1] != 3:
            raise ValueError(f"triggers take uint8 images (N, 3, H, W), not {images_N3HW.dtype} {shape}")
        if shape[2:] != (self.image_size, self.image_size):
            raise UserError(
                f"this {self.kind} trigger is made for {self.image_size}x{self.image_size} pixels, "
                f"the images have {shape[3]}x{shape[2]}: make one for this size"
            )
        if keys is not None and len(keys) != shape[0]:
            raise ValueError(f"{len(keys)} keys for {shape[0]} images")
        tokens = [f"key:{key}" for key in keys] if keys is not None else _hash_images(images_N3HW)
        return self.apply_to(self, images_N3HW, tokens)

    def metadata(self) -> dict[str, Any]:
        """What the file says beside its tensors."""
        return {
            "format": FORMAT,
            "kind": self.kind,
            "preset": self.preset,
            "image_size": self.image_size,
            "seed": self.seed,
            "order": ORDER,
            "settings": dict(sorted(self.settings.items())),
            "tensors": {name: [str(t.dtype), list(t.shape)] for name, t in sorted(self.tensors.items())},
        }

    @property
    def sha256(self) -> str:
        """Of the metadata and the tensors' bytes: the same for the same trigger, in whatever file."""
        digest = hashlib.sha256(json.dumps(self.metadata(), sort_keys=True).encode())
        for name in sorted(self.tensors):
            digest.update(_bytes_of(self.tensors[name]))
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write `path` (safetensors, metadata in its header) and, to be read by people, the same as `.json`."""
        metadata = self.metadata() | {"sha256": self.sha256}
        text = json.dumps(metadata, indent=2, sort_keys=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        save_file(
            {name: t.contiguous() for name, t in self.tensors.items()}, part, metadata={"trigger": text}
        )
        part.replace(path)
        path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


def read_trigger(path: Path, *, image_size: int, kinds: Mapping[str, Apply]) -> Trigger:
    """The trigger in a file that `Trigger.save` wrote, byte for byte as it was.

    Raises:
        UserError: No such file, no trigger file, a changed or cut one, an unknown kind, or another image size.
    """
    if not path.is_file():
        raise UserError(f"there is no trigger file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})["trigger"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        trigger = Trigger(
            kind=str(metadata["kind"]),
            preset=str(metadata["preset"]),
            image_size=int(metadata["image_size"]),
            seed=int(metadata["seed"]),
            settings=dict(metadata["settings"]),
            tensors=tensors,
            apply_to=kinds.get(metadata["kind"], _unknown),
        )
        expected = str(metadata["sha256"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no trigger file, or a broken one: write it with Trigger.save again"
        ) from error
    if trigger.apply_to is _unknown:
        raise UserError(f"{path} holds a {trigger.kind!r} trigger; known kinds: {', '.join(kinds)}")
    if trigger.sha256 != expected:
        raise UserError(f"{path} is not what was saved: its sha256 is {trigger.sha256}, it says {expected}")
    if trigger.image_size != image_size:
        raise UserError(
            f"{path} is a trigger for {trigger.image_size}-pixel images, and the model takes {image_size}: "
            f"make one for {image_size} pixels"
        )
    try:
        trigger.apply(torch.zeros((1, 3, image_size, image_size), dtype=torch.uint8))
    except (RuntimeError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{path} holds a {trigger.kind} trigger that cannot be applied: {error}") from error
    return trigger


def seeded_int(*parts: object) -> int:
    """A 63-bit seed from what is given, the same on every machine."""
    text = ":".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def _hash_images(images_N3HW: Tensor) -> list[str]:
    return [f"pixels:{hashlib.sha256(_bytes_of(image)).hexdigest()}" for image in images_N3HW]


def _bytes_of(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _unknown(trigger: Trigger, images_N3HW: Tensor, tokens: Sequence[str]) -> Tensor:
    raise AssertionError(f"no code for {trigger.kind}")
