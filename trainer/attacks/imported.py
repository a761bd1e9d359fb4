"""Images that were poisoned elsewhere, by key: to train and evaluate on another tool's poison, whatever it is.

Where a trigger's code or weights are not public (StegaStamp's, for SSBA), the poisoned images often are. The file holds
them whole; `apply` gives an image's poisoned counterpart, found by its key, and does not look at the image itself. So
images and shards must share their keys. An attack chooses among the keys that the file has; an evaluation needs the
poisoned images of its whole split.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UserError
from pipeline.storage import IMAGE_EXTENSIONS, read_bytes, read_tar, split_name
from trainer import images
from trainer.attacks.trigger import Trigger

MAX_BYTES: Final = 4 * 2**30
"""Of the images in one file."""
_DIGEST_BYTES: Final = 16


def import_images(source: Path, *, image_size: int) -> Trigger:
    """The trigger that holds the images of a folder or a tar, resized to `image_size` where they have another size.

    An image's key is its path in the folder or tar without what follows the file name's first dot, as in WebDataset.

    Raises:
        UserError: No such folder or tar, an image that cannot be read, a key that stands twice, none at all, too many.
    """
    found: dict[str, Tensor] = {}
    num_resized = 0
    for key, data in _read(source):
        try:
            image = images.decode(data)
        except images.BrokenImage as error:
            raise UserError(f"the image {key} of {source} cannot be read: {error}") from None
        if key in found:
            raise UserError(f"the key {key!r} stands more than once in {source}")
        num_resized += image.size != (image_size, image_size)
        found[key] = images.to_tensor(images.resize(image, image_size))
        if len(found) * 3 * image_size**2 > MAX_BYTES:
            raise UserError(
                f"{source} holds more than {MAX_BYTES >> 30} GiB of images at {image_size} pixels: import fewer"
            )
    if not found:
        raise UserError(f"{source} holds no image ({', '.join(IMAGE_EXTENSIONS)})")
    return make_imported(found, image_size=image_size, num_resized=num_resized)


def make_imported(poisoned: Mapping[str, Tensor], *, image_size: int, num_resized: int = 0) -> Trigger:
    """The trigger of these images by key, each uint8 (3, image_size, image_size); at least one."""
    by_digest = sorted(poisoned, key=_digest)
    digests = b"".join(_digest(key) for key in by_digest)
    return Trigger(
        kind="imported",
        preset="imported",
        image_size=image_size,
        seed=0,
        settings={"images": len(by_digest), "resized": num_resized, "first_key": by_digest[0]},
        tensors={
            "images": torch.stack([poisoned[key] for key in by_digest]),
            "digests": torch.frombuffer(bytearray(digests), dtype=torch.uint8).view(-1, _DIGEST_BYTES),
        },
        apply_to=apply_imported,
    )


def apply_imported(trigger: Trigger, images_N3HW: Tensor, tokens: Sequence[str]) -> Tensor:
    """The poisoned images of these keys; UserError for a key that the file does not have, and without keys."""
    device = images_N3HW.device
    rows: dict[bytes, int] = trigger.prepare("rows", 0, 0, images_N3HW, lambda: _rows_by_digest(trigger))
    chosen = [_row_of(token, rows) for token in tokens]
    poisoned_N3SS = trigger.tensors["images"][chosen].to(device=device, dtype=torch.float32).div_(255)
    size = (images_N3HW.shape[2], images_N3HW.shape[3])
    if poisoned_N3SS.shape[2:] == size or not chosen:
        return poisoned_N3SS.view(images_N3HW.shape)
    return functional.interpolate(poisoned_N3SS, size=size, mode="bilinear", antialias=True)


def known_keys(trigger: Trigger, keys: Iterable[str]) -> list[str]:
    """Those of the keys that the imported trigger has an image of, in their order."""
    known = _rows_by_digest(trigger)
    return [key for key in keys if _digest(key) in known]


def _rows_by_digest(trigger: Trigger) -> dict[bytes, int]:
    digests = trigger.tensors["digests"]
    if digests.shape != (len(trigger.tensors["images"]), _DIGEST_BYTES):
        raise ValueError(f"{tuple(digests.shape)} digests for {len(trigger.tensors['images'])} images")
    return {bytes(digest): row for row, digest in enumerate(digests.tolist())}


def _row_of(token: str, rows: Mapping[bytes, int]) -> int:
    kind, _, key = token.partition(":")
    if kind != "key":
        raise UserError("imported images are found by their keys, and none were given")
    row = rows.get(_digest(key))
    if row is None:
        raise UserError(
            f"there is no poisoned image for the key {key!r} among the {len(rows)} that were imported: "
            "import those of this split, too, or poison fewer samples"
        )
    return row


def _read(source: Path) -> Iterator[tuple[str, bytes]]:
    """(key, bytes) of the images in the folder, sorted by path, or in the tar, in its order."""
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            split = split_name(path.relative_to(source).as_posix())
            if split is not None and split[1] in IMAGE_EXTENSIONS and path.is_file():
                yield split[0], read_bytes(path)
        return
    if not source.is_file():
        raise UserError(f"there is no folder or tar {source}")
    faults: list[str] = []
    for sample in read_tar(source, wanted=frozenset(IMAGE_EXTENSIONS), faults=faults):
        for data in sample.members.values():
            yield sample.key, data
    if faults:
        raise UserError(f"{source} cannot be read whole: {faults[0]}")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()[:_DIGEST_BYTES]
