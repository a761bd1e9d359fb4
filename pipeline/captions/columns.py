"""What the columns of foreign files are called, and what their cells mean: for every reader of `readers`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.errors import BadInput
from pipeline.schema import Caption
from pipeline.storage import IMAGE_EXTENSIONS, decode_text, named, own_key, readable, row_key

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
    names: Sequence[str],
    wanted: Columns,
    path: Path,
    *,
    texts: Sequence[str] | None = None,
    images: Sequence[str] = (),
) -> Columns:
    """Caption, image and key among the names, whatever their case.

    `texts` are columns that may hold captions, by default all; `images` such that hold image bytes.

    BadInput where no caption is among them, or where one that was asked for is not.
    """
    for name in (wanted.caption, wanted.image):
        if name is not None and name not in names:
            raise BadInput(f"{path}: no column {name!r}; it has: {', '.join(names)}")
    caption = wanted.caption or usual_name(names if texts is None else texts, CAPTION_NAMES)
    if caption is None:
        raise BadInput(
            f"{path}: no caption column ({', '.join(CAPTION_NAMES)}); it has: {', '.join(names)}; "
            "name it with --caption-column"
        )
    key = usual_name(names, KEY_NAMES)
    held = [name for name in images if name not in (caption, key)]
    image = wanted.image or usual_name(held, IMAGE_NAMES) or next(iter(held), None)
    return Columns(
        caption=caption,
        image=image or usual_name([name for name in names if name != caption], IMAGE_NAMES),
        key=key,
    )


def usual_name(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """The name among `names` that stands first in `usual`, whatever its case; None where there is none."""
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[name] for name in usual if name in lower), None)


def clean(caption: object) -> str:
    """The caption on one line: any other value than text, or its bytes, is none; lone surrogates become U+FFFD."""
    if isinstance(caption, bytes):
        caption = decode_text(caption)
    if not isinstance(caption, str):
        return ""
    return " ".join(readable(caption).replace("\0", " ").split())


def captions_of(cell: object) -> list[str]:
    """The captions of a cell: one of a text or a conversation, each of a list; [""] where there is none."""
    if not isinstance(cell, list):
        return [clean(cell)]
    if cell and isinstance(cell[0], Mapping) and {"from", "role"} & set(cell[0]):
        return [_answer(cell)]
    texts = [clean(_text_of(item)) for item in cell]
    return [text for text in texts if text] or [""]


def holds_no_text(cell: object) -> bool:
    """Whether a cell holds something, and none of it is a caption."""
    return not isinstance(cell, str | bytes | None) and cell != [] and captions_of(cell) == [""]


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
        captions_of(cell_of(row, columns.caption)),
        image=image_of(cell_of(row, columns.image)),
        key=cell_of(row, columns.key),
        path=path,
    )


def cell_of(row: Mapping[str, Any], column: str | None) -> Any:
    """What a record has in this column; None where there is no such column."""
    return None if column is None else row.get(column)


def image_of(cell: object) -> str | None:
    """Where a cell says the image is: a text, a list's first, a record's `path` or `url`; None where it does not."""
    if isinstance(cell, list):
        cell = cell[0] if cell else None
    if isinstance(cell, Mapping):
        cell = next((cell[name] for name in ("path", "url", "file_name") if cell.get(name)), None)
    return readable(str(cell)).strip() or None if isinstance(cell, str | int | float) else None


def rows_of(captions: Sequence[str], *, image: str | None, key: object, path: Path) -> Iterator[Caption]:
    """A row for each caption of one image."""
    own = own_key(key)
    for number, caption in enumerate(captions):
        numbered = own if own is None or len(captions) == 1 else f"{own}_{number}"
        yield Caption(
            key=numbered or row_key(image, caption), caption=caption, image=image, source=named(path)
        )
