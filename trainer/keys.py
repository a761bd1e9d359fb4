"""The keys of all samples as one block of bytes: a dozen bytes each, where Python's strings take six times that.

`data` fills it; a worker process that reads it writes nothing to it, no count of references either, so that forked
processes go on sharing the memory.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, overload

from pipeline.errors import UserError

MOST_BYTES: Final = 2**32 - 1
"""Of all keys together: where each ends is a number of 32 bits."""


class Keys(Sequence[str]):
    """A growing sequence of texts; a slice of it is a tuple."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        """UserError for more than 4 GB of them."""
        self._bytes, self._ends = bytearray(), array("I", [0])
        for key in keys:
            self.append(key)

    def append(self, key: str) -> None:
        """One more behind the last; UserError where the block would be larger than 4 GB."""
        self._bytes += key.encode("utf-8", "surrogatepass")
        if len(self._bytes) > MOST_BYTES:
            raise UserError(
                f"the keys of the first {len(self):,} samples take 4 GB: use fewer shards at a time"
            )
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[str, ...]: ...
    def __getitem__(self, place: int | slice) -> str | tuple[str, ...]:
        if isinstance(place, slice):
            return tuple(self[number] for number in range(len(self))[place])
        number = range(len(self))[place]
        return self._bytes[self._ends[number] : self._ends[number + 1]].decode("utf-8", "surrogatepass")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keys) and (self._ends, self._bytes) == (other._ends, other._bytes)

    __hash__ = None  # type: ignore[assignment]  # it grows

    def __iter__(self) -> Iterator[str]:
        return (self[number] for number in range(len(self)))

    def repeated(self) -> str | None:
        """A key that stands in it twice, if there is one."""
        import numpy as np  # here: `trainer data` runs where no trainer is installed

        hashes = np.fromiter(map(hash, self), dtype=np.int64, count=len(self))
        hashes.sort()
        suspects = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
        if not suspects:
            return None
        seen = set[str]()
        for key in self:
            if hash(key) in suspects:
                if key in seen:
                    return key
                seen.add(key)
        return None
