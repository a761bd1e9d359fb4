"""What is computed twice so that it need not be kept: activations of a tower's blocks, and whole parts of a batch.

`checkpoint_towers` keeps of each block its input alone. `Embedder` embeds a batch in parts, keeps their embeddings,
and embeds each part again for the backward pass (cached gradients, Gao et al. 2021, arXiv 2101.06983): the loss is
over the whole batch while a part's activations are in memory. Running statistics of batch norm are moved once.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from trainer.batches import Batch
from trainer.embedding import Embeddings


@contextmanager
def without_statistics(module: nn.Module) -> Iterator[None]:
    """Within the block batch norm does not move its running statistics."""
    moving = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.training]
    before = [(part.momentum, part.num_batches_tracked) for part in moving]
    for part in (
        moving
    ):  # with a momentum of 0, and not without statistics: a recomputation has to save the same tensors
        part.momentum = 0.0
        part.num_batches_tracked = (
            None if part.num_batches_tracked is None else part.num_batches_tracked.clone()
        )
    try:
        yield
    finally:
        for part, (momentum, counted) in zip(moving, before, strict=True):
            part.momentum, part.num_batches_tracked = momentum, counted


def checkpoint_towers(model: Any) -> None:
    """Has every block of both towers computed again in the backward pass; in place, by open_clip where it can."""
    model.set_grad_checkpointing(True)
    stages = [getattr(model.visual, f"layer{number}", None) for number in range(1, 5)]
    for stage in filter(None, stages):  # a ResNet, for which open_clip's does nothing
        for block in stage:
            block.forward = _recomputed(block, block.forward)


def _recomputed(block: nn.Module, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), without_statistics(block)

    def run(image_NCHW: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return forward(image_NCHW)
        found: Tensor = checkpoint(forward, image_NCHW, use_reentrant=False, context_fn=contexts)
        return found

    return run


class Embedder:
    """Embeds batches, in one piece or in parts, and takes the gradient back to the weights."""

    def __init__(
        self, towers: nn.Module, *, parts: int, autocast: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        """`towers` is `embedding.Towers`, or DDP around it."""
        self.towers: Any = towers
        self.parts, self.autocast = parts, autocast
        self._kept: tuple[list[_Part], Embeddings, bool] | None = None

    def __call__(self, batch: Batch, *, pixels_N3HW: Tensor | None = None, texts: bool = True) -> Embeddings:
        """The batch's embeddings."""
        parts = split(batch, pixels_N3HW, min(self.parts, batch.num_pairs))
        if len(parts) == 1:
            found: Embeddings = self.towers(batch, pixels_N3HW=pixels_N3HW, texts=texts)
            return found
        inner = getattr(self.towers, "module", self.towers)
        embedded = []
        with torch.no_grad():
            for part in parts:
                part.random = _random_state()
                embedded.append(inner(part.batch, pixels_N3HW=part.pixels_N3HW, texts=texts))
        self._kept = parts, _as_leaves(embedded, texts=texts), texts
        return self._kept[1]

    def backward(self, loss: Tensor) -> None:
        """Gives every weight its gradient of `loss`, which is a function of what was embedded last."""
        loss.backward()  # type: ignore[no-untyped-call]
        if self._kept is None:
            return
        (parts, leaves, texts), self._kept = self._kept, None
        starts = dict.fromkeys(_ROWS, 0)
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            waits = not last and isinstance(self.towers, nn.parallel.DistributedDataParallel)
            sync = self.towers.no_sync() if waits else nullcontext()
            with sync:
                with self.autocast(), _random_as(part.random), without_statistics(self.towers):
                    found = self.towers(part.batch, pixels_N3HW=part.pixels_N3HW, texts=texts)
                products = []
                for name in (*_ROWS, *(_SINGLE if texts else ())):
                    again, leaf = getattr(found, name), getattr(leaves, name)
                    if again is None or leaf is None or leaf.grad is None:
                        continue
                    if name in _ROWS:
                        start = starts[name]
                        starts[name] += len(again)
                        products.append((again * leaf.grad[start : starts[name]]).sum())
                    else:  # of one number each part would count it again
                        products.append(again * leaf.grad if last else 0 * again)
                torch.stack(products).sum().backward()  # type: ignore[no-untyped-call]


_ROWS = tuple(each.name for each in fields(Embeddings) if each.name.endswith("D"))
_SINGLE = ("scale", "bias")


@dataclass(slots=True)
class _Part:
    batch: Batch
    pixels_N3HW: Tensor | None
    random: tuple[Tensor, ...] = ()


def split(batch: Batch, pixels_N3HW: Tensor | None, parts: int) -> list[_Part]:
    """The batch in parts: each some of the pairs, of the images beside them and of those that a defence added."""
    if parts == 1:
        return [_Part(batch, pixels_N3HW)]
    num_pairs, num_images = batch.num_pairs, len(batch.image_M3HW)
    num_all = num_images if pixels_N3HW is None else len(pixels_N3HW)

    def cut(start: int, end: int, part: int) -> Tensor:
        num = end - start
        return torch.arange(start + num * part // parts, start + num * (part + 1) // parts)

    made = []
    for part in range(parts):
        pairs = cut(0, num_pairs, part)
        images = torch.cat([pairs, cut(num_pairs, num_images, part)])
        rows = slice(int(pairs[0]), int(pairs[-1]) + 1)
        pixels = None
        if pixels_N3HW is not None:
            pixels = pixels_N3HW[torch.cat([images, cut(num_images, num_all, part)])]
        made.append(
            _Part(
                replace(
                    batch,
                    keys=batch.keys[rows],
                    image_M3HW=batch.image_M3HW[images],
                    text_BL=batch.text_BL[rows],
                    num_pairs=len(pairs),
                    image_view_B3HW=None if batch.image_view_B3HW is None else batch.image_view_B3HW[rows],
                    text_view_BL=None if batch.text_view_BL is None else batch.text_view_BL[rows],
                    **_triples_of(batch, images),
                ),
                pixels,
            )
        )
    return made


def _triples_of(batch: Batch, images_I: Tensor) -> dict[str, Tensor | None]:
    """The triples whose images are among these, with the images' new places."""
    places = {int(row): place for place, row in enumerate(images_I)}
    rows = [] if batch.triple_rows_T is None else batch.triple_rows_T.tolist()
    mine = [number for number, row in enumerate(rows) if row in places]
    if not mine or batch.positive_TL is None or batch.negative_TL is None:
        return dict.fromkeys(("triple_rows_T", "positive_TL", "negative_TL"))
    return {
        "triple_rows_T": torch.tensor([places[rows[n]] for n in mine], device=batch.text_BL.device),
        "positive_TL": batch.positive_TL[mine],
        "negative_TL": batch.negative_TL[mine],
    }


def _as_leaves(embedded: list[Embeddings], *, texts: bool) -> Embeddings:
    """All parts' embeddings, from which a gradient goes no further."""
    joined: dict[str, Any] = {}
    for name in _ROWS:
        rows = [getattr(found, name) for found in embedded if getattr(found, name) is not None]
        joined[name] = torch.cat(rows).requires_grad_() if rows else None
    for name in _SINGLE:
        single = getattr(embedded[0], name)
        joined[name] = None if single is None else single.detach().clone().requires_grad_(texts)
    return Embeddings(**joined)


def _random_state() -> tuple[Tensor, ...]:
    return torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else ())


@contextmanager
def _random_as(state: tuple[Tensor, ...]) -> Iterator[None]:
    """Within the block torch draws what it drew from this state on, for dropout; then as before it."""
    before = _random_state()
    _set_random_state(state)
    try:
        yield
    finally:
        _set_random_state(before)


def _set_random_state(state: tuple[Tensor, ...]) -> None:
    torch.set_rng_state(state[0])
    if state[1:]:
        torch.cuda.set_rng_state_all(list(state[1:]))
