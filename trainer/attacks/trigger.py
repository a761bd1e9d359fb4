"""A trigger as an artefact: what is put into an image, as a file that anyone can apply again, pixel by pixel.

`load_trigger` (in this package's `__init__`) makes one by name or reads one from a file; `apply` puts it into images
after they were resized and before they are normalised. Nothing is drawn from a global random generator: what varies
from image to image comes from the trigger's seed and the image's key, or from its pixels where no key is given. So
the same image gets the same trigger, whatever batch it stands in.

One rule for other sizes: a trigger covers the same share of an image of any size, as if the image had been resized
together with it. Each family's docstring says how.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar, overload

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipeline.errors import UserError
from pipeline.storage import write_text
from trainer.checkpoint import write_safetensors

FORMAT: Final = "cleanerclip-trigger-1"
ORDER: Final = "after resize, before normalisation, on uint8 pixels"
BYTES_AT_A_TIME: Final = 2**20
"""Images are taken in slices of about this many uint8 bytes on the CPU, so that what is in between stays in cache."""
SIZES_KEPT: Final = 4

Made = TypeVar("Made")
Apply = Callable[["Trigger", Tensor, Sequence[str]], Tensor]
"""A family's code: (trigger, float32 images (N, 3, H, W) in 0..1, N tokens that seed what varies from image to image)
-> new float32 images of the same shape on the same device; values may leave 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """One trigger, made at one size, for images of any size."""

    kind: str
    """The family: badnet, ..."""
    preset: str
    """The name it was made by."""
    image_size: int
    """Side of the images it is made for, in pixels."""
    seed: int
    settings: Mapping[str, str | int | float | bool]
    """What the family's `apply` reads beside the tensors. `rounding` "cut": uint8 results are cut off as the public
    code's ToPILImage does, not rounded."""
    tensors: Mapping[str, Tensor]
    apply_to: Apply = field(compare=False, repr=False)
    _prepared: dict[tuple[object, ...], Any] = field(
        init=False, compare=False, repr=False, default_factory=dict
    )

    def apply(self, images_N3HW: Tensor, *, keys: Sequence[str] | None = None) -> Tensor:
        """The images with the trigger: a new tensor of the same shape and type, on the same device.

        uint8 gives uint8: pixels that the trigger leaves alone are exactly as they were, others are clipped and
        rounded. Floats must lie in 0..1 and are clipped to it. `keys` name the images; without them, an image's own
        pixels, as bytes, stand for its key.

        Raises:
            UserError: The trigger cannot be put into images of this size.
        """
        shape = tuple(images_N3HW.shape)
        if len(shape) != 4 or shape[1] != 3 or 0 in shape[2:]:
            raise ValueError(f"triggers take images (N, 3, H, W), not {shape}")
        _check_values(images_N3HW)
        if keys is not None and len(keys) != shape[0]:
            raise ValueError(f"{len(keys)} keys for {shape[0]} images")
        tokens = _PixelTokens(images_N3HW) if keys is None else [f"key:{key}" for key in keys]
        result_N3HW = torch.empty_like(images_N3HW, memory_format=torch.contiguous_format)
        at_a_time = max(1, shape[0])
        if images_N3HW.device.type == "cpu":
            at_a_time = max(1, BYTES_AT_A_TIME // (3 * shape[2] * shape[3]))
        for start in range(0, shape[0], at_a_time):
            part = slice(start, start + at_a_time)
            result_N3HW[part] = self._apply_part(images_N3HW[part], tokens[part])
        return result_N3HW

    def _apply_part(self, images_N3HW: Tensor, tokens: Sequence[str]) -> Tensor:
        if images_N3HW.dtype != torch.uint8:
            return self.apply_to(self, images_N3HW.to(torch.float32), tokens).clamp(0, 1)
        # x / 255 * 255 is x again, exactly, for every byte
        triggered_N3HW = self.apply_to(self, images_N3HW.to(torch.float32).div_(255), tokens).mul_(255)
        if self.settings.get("rounding") != "cut":
            triggered_N3HW.round_()
        return triggered_N3HW.clamp_(0, 255)

    def prepare(self, name: str, height: int, width: int, like: Tensor, make: Callable[[], Made]) -> Made:
        """What `make` gives, made once per name, image size and device: for what a family needs at every call."""
        key = (name, height, width, like.device)
        made: Made | None = self._prepared.get(key)
        if made is None:  # never looked up twice: another thread may clear in between
            made = make()
            if len(self._prepared) >= SIZES_KEPT:
                self._prepared.clear()
            self._prepared[key] = made
        return made

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
        tensors = {name: t.contiguous() for name, t in self.tensors.items()}
        write_safetensors(path, tensors, metadata={"trigger": text})
        write_text(path.with_suffix(".json"), text + "\n")


MAX_IMAGE_SIZE = 8_192
_BROKEN = (
    SafetensorError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    RuntimeError,
)
"""What a file that is no trigger leads to."""


def read_trigger(path: Path, *, image_size: int | None, kinds: Mapping[str, Apply]) -> Trigger:
    """The trigger in a file that `Trigger.save` wrote, byte for byte as it was.

    It is tried on an image of `image_size` pixels; None: of the size it was made for.

    Raises:
        UserError: No such file, no trigger file, a changed or cut one, an unknown kind, or one that cannot be put into
            images of `image_size` pixels.
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
    except _BROKEN as error:
        raise UserError(
            f"{path} is no trigger file, or a broken one: write it with `trainer craft-trigger` again"
        ) from error
    if trigger.apply_to is _unknown:
        raise UserError(f"{path} holds a {trigger.kind!r} trigger; known kinds: {', '.join(kinds)}")
    if trigger.sha256 != expected:
        raise UserError(f"{path} is not what was saved: its sha256 is {trigger.sha256}, it says {expected}")
    try:
        if trigger.image_size > MAX_IMAGE_SIZE:
            raise ValueError(
                f"made for images of {trigger.image_size} pixels a side, the limit is {MAX_IMAGE_SIZE}"
            )
        if trigger.image_size < 1 or not all(t.isfinite().all() for t in tensors.values()):
            raise ValueError("a size below 1, or values that are no numbers")
        known = trigger.settings.get("first_key")  # of a kind that has images for certain keys alone
        side = trigger.image_size if image_size is None else image_size
        black_13SS = torch.zeros((1, 3, side, side), dtype=torch.uint8)
        trigger.apply(black_13SS, keys=None if known is None else [str(known)])
    except (RuntimeError, ValueError, KeyError, TypeError, IndexError, ArithmeticError, MemoryError) as error:
        raise UserError(f"{path} holds a {trigger.kind} trigger that cannot be applied: {error}") from error
    return trigger


class _PixelTokens(Sequence[str]):
    """A token for each image, from its pixels: hashed when asked for, as not every family varies."""

    def __init__(self, images_N3HW: Tensor) -> None:
        self._images_N3HW = images_N3HW

    def __len__(self) -> int:
        return len(self._images_N3HW)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "_PixelTokens": ...
    def __getitem__(self, index: int | slice) -> "str | _PixelTokens":
        images = self._images_N3HW[index]
        if isinstance(index, slice):
            return _PixelTokens(images)
        if images.dtype != torch.uint8:
            images = images.to(torch.float32).mul(255).round().to(torch.uint8)
        return f"pixels:{hashlib.sha256(_bytes_of(images)).hexdigest()}"


def _check_values(images_N3HW: Tensor) -> None:
    if images_N3HW.dtype == torch.uint8 or images_N3HW.numel() == 0:
        return
    if not images_N3HW.is_floating_point():
        raise ValueError(f"triggers take uint8 or float images, not {images_N3HW.dtype}")
    low, high = (float(value) for value in images_N3HW.aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"float images must lie in 0..1, these are from {low:g} to {high:g}")


def _bytes_of(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _unknown(trigger: Trigger, images_N3HW: Tensor, tokens: Sequence[str]) -> Tensor:
    raise AssertionError(f"no code for {trigger.kind}")
