"""What the columns of foreign files are called, and what their cells mean: for every reader of `readers`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.errors import UserError
from pipeline.schema import Caption
from pipeline.storage import IMAGE_EXTENSIONS, own_key, row_key

CAPTION_NAMES: Final = (
    "caption", "captions", "text", "title", "sentence", "sentences", "comment", "alt_text", "raw", "txt",
    "description", "conversations", "messages",
)  # fmt: skip
IMAGE_NAMES: Final = (
    "image", "image_path", "filepath", "file_name", "filename", "image_name", "image_file", "img", "path",
    "image_url", "url", *IMAGE_EXTENSIONS,
)  # fmt: skip
KEY_NAMES: Final = ("__key__", "key", "id")
_ANSWERING: Final = ("gpt", "assistant", "model")
"""Who says the caption in a conversation about an image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which columns or JSON fields to read; as asked for, None means the usual names."""

    caption: str | None = None
    image: str | None = None
    key: str | None = None


def choose_columns(
    names: Sequence[str], wanted: Columns, path: Path, *, images: Sequence[str] = ()
) -> Columns:
    """Caption, image and key among the names, whatever their case; `images` are columns that hold image bytes.

    UserError where no caption is among them, or where one that was asked for is not.
    """
    for name in (wanted.caption, wanted.image):
        if name is not None and name not in names:
            raise UserError(f"{path}: no column {name!r}; it has: {', '.join(names)}")
    caption = wanted.caption or usual_name(names, CAPTION_NAMES)
    if caption is None:
        raise UserError(
            f"{path}: no caption column ({', '.join(CAPTION_NAMES)}); it has: {', '.join(names)}; "
            "name it with --caption-column"
        )
    image = wanted.image or usual_name(images, IMAGE_NAMES) or next(iter(images), None)
    return Columns(
        caption=caption,
        image=image or usual_name([name for name in names if name != caption], IMAGE_NAMES),
        key=usual_name(names, KEY_NAMES),
    )


def usual_name(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """The name among `names` that stands first in `usual`, whatever its case; None where there is none."""
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[name] for name in usual if name in lower), None)


def clean(caption: object) -> str:
    """The caption on one line: any other value than text is none; lone surrogates become U+FFFD."""
    if not isinstance(caption, str):
        return ""
    return " ".join(caption.encode("utf-8", "replace").decode("utf-8").replace("\0", " ").split())


def captions_of(cell: object) -> list[str]:
    """The captions of a cell: one of a text or a conversation, each of a list; [""] where there is none."""
    if not isinstance(cell, list):
        return [clean(cell)]
    if cell and isinstance(cell[0], Mapping) and {"from", "role"} & set(cell[0]):
        return [_answer(cell)]
    texts = [clean(_text_of(item)) for item in cell]
    return [text for text in texts if text] or [""]


def _text_of(item: object) -> object:
    """The text of one of several captions: itself, or the field of a record that holds it."""
    if not isinstance(item, Mapping):
        return item
    return next((item[name] for name in ("raw", "caption", "text", "sentence") if name in item), None)


def _answer(turns: list[Any]) -> str:
    """What is first said about the image: LLaVA's `from`/`value`, chat's `role`/`content` (a text, or parts)."""
    for turn in turns:
        if isinstance(turn, Mapping) and turn.get("from", turn.get("role")) in _ANSWERING:
            said = turn.get("value", turn.get("content"))
            if isinstance(said, list):
                said = next((part.get("text") for part in said if isinstance(part, Mapping)), None)
            return clean(said)
    return ""


def named_rows(row: Mapping[str, Any], columns: Columns, path: Path) -> Iterator[Caption]:
    """A row for each caption of a record; those of one key get `_0`, `_1`, ... behind it."""
    yield from rows_of(
        captions_of(row.get(columns.caption or "")),
        image=image_of(row.get(columns.image or "")),
        key=row.get(columns.key or ""),
        path=path,
    )


def image_of(cell: object) -> str | None:
    """A cell as where the image is: a text, a list's first one, a record's `path` or `url`; None where it is none."""
    if isinstance(cell, list):
        cell = cell[0] if cell else None
    if isinstance(cell, Mapping):
        cell = next((cell[name] for name in ("path", "url", "file_name") if cell.get(name)), None)
    return None if cell is None else str(cell).strip() or None


def rows_of(captions: Sequence[str], *, image: str | None, key: object, path: Path) -> Iterator[Caption]:
    """A row for each caption of one image."""
    own = own_key(key)
    for number, caption in enumerate(captions):
        numbered = own if own is None or len(captions) == 1 else f"{own}_{number}"
        yield Caption(key=numbered or row_key(image, caption), caption=caption, image=image, source=str(path))
