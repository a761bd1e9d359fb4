"""What a step is of: some pairs as tensors, with the views and triples that a defence asks for.

`preparing` makes these of samples, `batches` puts them in order, `embedding` reads them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a defence wants of a sample beyond its image."""

    views: bool = False
    """The augmented image and the augmented caption."""
    triples: bool = False
    """A positive and a negative sub-caption for the selected samples."""
    texts: bool = True
    """The captions' embeddings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What `BatchStream` yields: B pairs, then the images of triples that stand beside them."""

    keys: tuple[str, ...]
    image_M3HW: Tensor
    """uint8; the first `num_pairs` belong to the captions, the rest to triples from a cycled stream."""
    text_BL: Tensor
    num_pairs: int
    image_view_B3HW: Tensor | None = None
    text_view_BL: Tensor | None = None
    triple_rows_T: Tensor | None = None
    """Which images the triples belong to: rows of `image_M3HW`; None where the step has no triple."""
    positive_TL: Tensor | None = None
    negative_TL: Tensor | None = None

    def to(self, device: torch.device, *, pinned: bool = False) -> "Batch":
        """The same batch with its tensors on `device`; `pinned`: without waiting for the copy."""
        moved: dict[str, Any] = {}
        for name, tensor in self._tensors():
            moved[name] = tensor.pin_memory().to(device, non_blocking=True) if pinned else tensor.to(device)
        return replace(self, **moved)

    def used_by(self, stream: torch.cuda.Stream) -> None:
        """The memory of the tensors is not given to others before what is queued on `stream` is done."""
        for _, tensor in self._tensors():
            tensor.record_stream(stream)

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name in _TENSORS:
            if (tensor := getattr(self, name)) is not None:
                yield name, tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One sample as tensors."""

    key: str
    image_3HW: Tensor
    text_L: Tensor
    image_view_3HW: Tensor | None
    text_view_L: Tensor | None
    positive_L: Tensor | None
    negative_L: Tensor | None


def collate(rows: list[Prepared]) -> Batch:
    """The rows as one batch; those that bring sub-captions become its triples.

    torch's own collating stacks them, for in a worker it does so in memory that the process which trains has, too;
    what is stacked elsewhere, a thread of the worker would copy there.
    """
    triples = [(number, row) for number, row in enumerate(rows) if row.positive_L is not None]
    return Batch(
        keys=tuple(row.key for row in rows),
        image_M3HW=default_collate([row.image_3HW for row in rows]),
        text_BL=default_collate([row.text_L for row in rows]),
        num_pairs=len(rows),
        image_view_B3HW=_stack([row.image_view_3HW for row in rows]),
        text_view_BL=_stack([row.text_view_L for row in rows]),
        triple_rows_T=torch.tensor([number for number, _ in triples]) if triples else None,
        positive_TL=_stack([row.positive_L for _, row in triples]),
        negative_TL=_stack([row.negative_L for _, row in triples]),
    )


def join(batches: list[Batch], *, beside: Batch | None = None) -> Batch:
    """The rows of several batches as one, and the images and triples of another beside its pairs."""
    joined = batches[0]
    if len(batches) > 1:
        starts = [0]
        for batch in batches[:-1]:
            starts.append(starts[-1] + batch.num_pairs)
        rows = [
            batch.triple_rows_T + start
            for start, batch in zip(starts, batches, strict=True)
            if batch.triple_rows_T is not None
        ]
        tensors = {name: _cat([getattr(batch, name) for batch in batches]) for name in _TENSORS}
        joined = Batch(
            keys=tuple(key for batch in batches for key in batch.keys),
            num_pairs=sum(batch.num_pairs for batch in batches),
            **tensors | {"triple_rows_T": torch.cat(rows) if rows else None},
        )
    if beside is None:
        return joined
    return replace(
        joined,
        image_M3HW=torch.cat([joined.image_M3HW, beside.image_M3HW]),
        triple_rows_T=torch.arange(beside.num_pairs) + joined.num_pairs,
        positive_TL=beside.positive_TL,
        negative_TL=beside.negative_TL,
    )


_TENSORS = tuple(each.name for each in fields(Batch) if each.name not in ("keys", "num_pairs"))


def _cat(tensors: list[Tensor | None]) -> Any:
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.cat(present) if present else None


def _stack(tensors: list[Tensor | None]) -> Tensor | None:
    present = [tensor for tensor in tensors if tensor is not None]
    return default_collate(present) if present else None


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches with their tensors on the device: on a GPU each is copied while the step before it computes."""
    if device.type != "cuda":
        for batch in batches:
            yield batch.to(device)
        return
    copying: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    ahead: Batch | None = None
    for batch in batches:
        with torch.cuda.stream(copying):
            copied = batch.to(device, pinned=True)
        if ahead is not None:
            yield ahead
        torch.cuda.current_stream(device).wait_stream(copying)
        copied.used_by(torch.cuda.current_stream(device))
        ahead = copied
    if ahead is not None:
        yield ahead
