"""Several processes that train one model (`torchrun`): the only module that knows of torch.distributed.

Each takes its share of every batch; embeddings are gathered, so that the loss is that of one process with the whole
batch, and so are the gradients. With one process nothing here does anything.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, distributed, nn

from pipeline.errors import UserError

Item = TypeVar("Item")
PATIENCE: Final = timedelta(minutes=10)
"""How long a process waits for the others before it ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """Which of the processes this is."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes and tells."""
        return self.rank == 0

    def share(self, rows: Sequence[Item]) -> Sequence[Item]:
        """This process's rows: all shares behind one another are all rows, and differ by at most one."""
        num = len(rows)
        return rows[num * self.rank // self.world : num * (self.rank + 1) // self.world]

    def gather(self, tensor_N: Tensor) -> Tensor:
        """The rows of all processes, in their order: with one process the tensor itself.

        The gradient is that of the whole loss, if each process computes the whole loss, and gradients of weights are
        then averaged over the processes, as DDP does.
        """
        return self.gather_all({"": tensor_N})[""]

    def gather_all(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`gather` of several tensors that agree in all but their number of rows, in one exchange."""
        if self.world == 1:
            return dict(tensors)
        names, own = list(tensors), list(tensors.values())
        sizes_F = torch.tensor([len(tensor) for tensor in own], device=own[0].device)
        sizes_WF = torch.stack(self._all(sizes_F)).tolist()
        rows = _Gather.apply(torch.cat(own), self, [sum(sizes) for sizes in sizes_WF])  # type: ignore[no-untyped-call]
        parts = rows.split([size for sizes in sizes_WF for size in sizes])
        return {name: torch.cat(parts[number :: len(names)]) for number, name in enumerate(names)}

    def place(self, num: int, *, device: torch.device) -> tuple[int, int]:
        """Where this process's `num` rows begin among those of all, and how many those are."""
        if self.world == 1:
            return 0, num
        sizes = torch.stack(self._all(torch.tensor(num, device=device))).tolist()
        return sum(sizes[: self.rank]), sum(sizes)

    def _all(self, tensor: Tensor) -> list[Tensor]:
        found = [torch.empty_like(tensor) for _ in range(self.world)]
        distributed.all_gather(found, tensor)
        return found

    def any(self, asked: bool, *, device: torch.device) -> bool:
        """Whether any process says so."""
        if self.world == 1:
            return asked
        told = torch.tensor(int(asked), device=device)
        distributed.all_reduce(told, op=distributed.ReduceOp.MAX)
        return bool(told)

    def take_from(self, rank: int, tensor: Tensor) -> Tensor:
        """That process's tensor, the same in all."""
        if self.world > 1:
            tensor = tensor.contiguous()
            distributed.broadcast(tensor, rank % self.world)
        return tensor

    def collect(self, content: Any) -> list[Any]:
        """What each process gives, in their order."""
        if self.world == 1:
            return [content]
        found: list[Any] = [None] * self.world
        distributed.all_gather_object(found, content)
        return found

    def wait(self) -> None:
        """Until all processes have come here."""
        if self.world > 1:
            distributed.barrier()

    def wrap(self, module: nn.Module, *, some_unused: bool) -> nn.Module:
        """The module with gradients averaged over the processes; `some_unused`: not all weights take part."""
        if self.world == 1:
            return module
        device = next(module.parameters()).device
        return nn.parallel.DistributedDataParallel(
            module,
            device_ids=[device] if device.type == "cuda" else None,
            find_unused_parameters=some_unused,
            gradient_as_bucket_view=True,
        )


class _Gather(torch.autograd.Function):
    """The rows of all processes behind one another."""

    @staticmethod
    def forward(ctx: Any, tensor_ND: Tensor, ranks: Ranks, sizes: list[int]) -> Tensor:
        ctx.ranks, ctx.start, ctx.num = ranks, sum(sizes[: ranks.rank]), len(tensor_ND)
        padded = tensor_ND.new_zeros((max(sizes), *tensor_ND.shape[1:]))
        padded[: len(tensor_ND)] = tensor_ND
        found = ranks._all(padded)
        return torch.cat([rows[:size] for rows, size in zip(found, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The own rows' gradient, times the processes, over which DDP will average."""
        return gradients[0][ctx.start : ctx.start + ctx.num] * ctx.ranks.world, None, None


ONE: Final = Ranks()
_joined: Final[list[Any]] = []
"""What was joined, kept to the process's end: torch frees a group of gloo's in Python's lock, and waits there for a
thread of it that may wait for the lock to free a tensor (seen in torch 2.13, where DDP's reducer went last)."""


def join_ranks(*, cuda: bool) -> Ranks:
    """The processes that `torchrun` started, this one among them; one process where it did not.

    UserError where they cannot find each other.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world < 2 or "RANK" not in os.environ:
        return ONE
    if not distributed.is_initialized():
        if cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        try:
            distributed.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"the {world} processes cannot find each other: {error}") from None
        _joined.append(distributed.group.WORLD)
    return Ranks(rank=distributed.get_rank(), world=world)


def leave_ranks() -> None:
    """Ends what `join_ranks` began, when all have come: one that leaves early may take what others await."""
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


def is_of_a_lost_process(error: RuntimeError) -> bool:
    """Whether a process failed because another one has ended."""
    said = str(error)
    return isinstance(error, distributed.DistError) or any(
        word in said
        for word in ("Connection closed by peer", "Connection reset", "gloo", "NCCL", "Broken pipe")
    )
