"""What a sample is called: the one place that decides keys, for the pipeline and for the trainer.

A sample of a tar or of a folder of images is called by its files' path up to the file name's first dot, as WebDataset
has it; a row of another file by the key it brings, or else by what it says.
"""

import hashlib
import re
from typing import Final

IMAGE_EXTENSIONS: Final = ("jpg", "jpeg", "png", "webp")
"""Of a sample's image; where it has several, the first of these is it."""

_WEBDATASET_NAME: Final = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
_HERE: Final = re.compile(r"^(?:\./+)+")


def readable_name(name: str) -> str:
    """The name with bytes that are no UTF-8 as U+FFFD, so that it can be written anywhere."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def is_inside(name: str) -> bool:
    """Whether a member's name stays inside its archive and can be shown on one line."""
    return name.isprintable() and not name.startswith("/") and ".." not in name.split("/")


def split_name(name: str) -> tuple[str, str] | None:
    """Key and lower-case extension of a member or file; `./a.png` is `a.png`.

    None for what is no data: a name without extension, a hidden file, WebDataset's own metadata.
    """
    name = _HERE.sub("", readable_name(name))
    matched = _WEBDATASET_NAME.match(name)
    if matched is None or name.rpartition("/")[2].startswith((".", "__")):
        return None
    return matched.group(1), matched.group(2).lower()


def row_key(image: str | None, caption: str) -> str:
    """The key of a row whose input has none: SHA-256 of image reference and caption, 32 hex digits."""
    return hashlib.sha256(f"{image or ''}\n{caption}".encode()).hexdigest()[:32]


def own_key(key: object) -> str | None:
    """The input's key as a WebDataset key; None where it has none, or one that is neither text nor number.

    A dot would start the extension, a slash a folder, and what begins with two underscores is WebDataset's own.
    """
    if key == "" or not isinstance(key, str | int | float):
        return None
    return re.sub(r"^__+", "_", re.sub(r"[^\w-]", "_", str(key)[:200]))
