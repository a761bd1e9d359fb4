"""Which files a pattern means: a file, a folder, a glob, braces; several joined by `::`."""

import glob
import itertools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, cast

import braceexpand

from pipeline.errors import UserError
from pipeline.storage.remote import RemotePath, as_remote, place

MAX_NAMES: Final = 1_000_000
"""That one brace pattern may mean."""
_RANGE: Final = re.compile(r"\{(-?\d+)\.\.(-?\d+)")
_URL: Final = re.compile(r"^[a-z0-9]+://")


def find_files(
    pattern: str, *, noun: str, in_folder: Callable[[Path], Sequence[Path]], gaps: bool
) -> list[Path]:
    """The files of the pattern, in its order.

    Args:
        pattern: Parts joined by `::`, each a file, a folder, a glob or a brace pattern.
        noun: What the files are, for messages.
        in_folder: The files that a folder stands for.
        gaps: Whether braces may name files that do not exist, as ranges of downloaded shards do.

    Raises:
        UserError: A part finds nothing, or is a URL of a kind that is not read.
    """
    return [file for part in pattern.split("::") for file in _expand(part, noun, in_folder, gaps)]


def _expand(part: str, noun: str, in_folder: Callable[[Path], Sequence[Path]], gaps: bool) -> list[Path]:
    if not part:
        raise UserError("an empty pattern: give a file, a folder, a glob or a brace pattern")
    there = not _URL.match(part) and os.path.exists(os.path.expanduser(part))
    names = [part] if there else expand_braces(part)
    found = [(name, _match(place(name).expanduser(), in_folder)) for name in names]
    missing = [name for name, files in found if not files]
    if len(missing) == len(found) or (missing and not gaps):
        raise UserError(
            f"no {noun} at {missing[0] if len(names) > 1 and not gaps else part}: give files, a folder, a glob, or "
            "a brace pattern such as {00000..00009}.tar"
        )
    return [file for _, files in found for file in files]


def expand_braces(part: str) -> list[str]:
    """The names that braces in it mean, at most MAX_NAMES; UserError where there are more."""
    if "{" not in part:
        return [part]
    sizes = [_range_size(*found) for found in _RANGE.findall(part)]
    if max(sizes, default=0) > MAX_NAMES:
        raise UserError(f"{part!r} names more than {MAX_NAMES:,} files")
    try:
        names = list(itertools.islice(braceexpand.braceexpand(part), MAX_NAMES + 1))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{part!r} is no valid brace pattern: {error}") from None
    if len(names) > MAX_NAMES:
        raise UserError(f"{part!r} names more than {MAX_NAMES:,} files")
    return names


def _range_size(start: str, end: str) -> int:
    return MAX_NAMES + 1 if max(len(start), len(end)) > 18 else abs(int(end) - int(start)) + 1


def _match(path: Path, in_folder: Callable[[Path], Sequence[Path]]) -> Sequence[Path]:
    if (remote := as_remote(path)) is not None:
        return _match_remote(remote, in_folder)
    if os.path.isdir(path):
        return in_folder(path)
    if os.path.isfile(path):
        return [path]
    return sorted(match for name in glob.glob(str(path), recursive=True) if (match := Path(name)).is_file())


def _match_remote(path: RemotePath, in_folder: Callable[[Path], Sequence[Path]]) -> Sequence[Path]:
    """As `_match`; of a glob, the folders above its first star are its own."""
    starred = next((n for n, part in enumerate(path.parts) if glob.has_magic(part)), None)
    if starred is not None and path.scheme not in ("http", "https"):
        above = RemotePath(*path.parts[:starred])
        return cast(list[Path], sorted(above.glob("/".join(path.parts[starred:]))))
    if path.is_file():
        return [cast(Path, path)]
    return in_folder(cast(Path, path)) if path.is_dir() else []
