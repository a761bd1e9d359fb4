"""Captions in JSON: COCO's, Karpathy's splits, lists of records (ALBEF's, BLIP's, LLaVA's), and lines of them."""

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pipeline.captions.columns import (
    CAPTION_NAMES,
    IMAGE_NAMES,
    KEY_NAMES,
    Columns,
    captions_of,
    cell_of,
    clean,
    holds_no_text,
    image_of,
    named_rows,
    rows_of,
    usual_name,
)
from pipeline.errors import BadInput, UserError
from pipeline.schema import Caption
from pipeline.storage import lines_of, open_text, parse_json, readable
from pipeline.storage.limits import MAX_JSON_CHARACTERS

HEAD_CHARACTERS: Final = 65_536
"""How much of a file tells its format."""


def format_of_json(path: Path) -> str:
    """`json` of a list, `jsonl` of an object a line, `karpathy`, else `coco`, from the file's beginning."""
    try:
        with open_text(path) as file:
            head = file.read(HEAD_CHARACTERS).lstrip()
    except (OSError, EOFError, ValueError, zlib.error):  # its reader says what is damaged
        head = ""
    first, _, rest = head.partition("\n")
    if head.startswith("["):
        return "json"
    if rest.lstrip().startswith("{") and _is_object(first):
        return "jsonl"
    return "karpathy" if '"sentences"' in head else "coco"


def _is_object(line: str) -> bool:
    try:
        return isinstance(parse_json(line), dict)
    except ValueError:
        return False


def columns_of_record(path: Path, wanted: Columns, *, lines: bool) -> Columns:
    """The fields of the first record that will be read."""
    records = _records_of_lines(path, []) if lines else _records_of_list(path, [])
    return _choose(next((record for _, record in records), {}), wanted)


def _choose(record: Mapping[str, Any], wanted: Columns) -> Columns:
    """Records may differ: one without a caption is a row without a caption."""
    names = list(record)
    return Columns(
        caption=wanted.caption or usual_name(names, CAPTION_NAMES),
        image=wanted.image or usual_name(names, IMAGE_NAMES),
        key=usual_name(names, KEY_NAMES),
    )


def read_jsonl(path: Path, wanted: Columns, faults: list[str]) -> Iterator[Caption]:
    """A record a line."""
    for number, record in _records_of_lines(path, faults):
        yield from _rows(record, wanted, path, f"line {number}", faults)


def read_list(path: Path, wanted: Columns, faults: list[str]) -> Iterator[Caption]:
    """A list of records; several captions, or a conversation, of an image are a list in one of its fields."""
    for number, record in _records_of_list(path, faults):
        yield from _rows(record, wanted, path, f"record {number}", faults)


def _rows(
    record: Mapping[str, Any], wanted: Columns, path: Path, where: str, faults: list[str]
) -> Iterator[Caption]:
    columns = _choose(record, wanted)
    if holds_no_text(cell_of(record, columns.caption)):
        faults.append(f"{path.name}: {where}: its caption is no text")
    yield from named_rows(record, columns, path)


def _records_of_lines(path: Path, faults: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    with open_text(path) as file:
        for number, line in enumerate(lines_of(file, path), start=1):
            if not line.strip():
                continue
            try:
                record = parse_json(line)
            except ValueError as error:
                faults.append(f"{path.name}: line {number}: {error}")
                record = {}
            if not isinstance(record, dict):
                faults.append(f"{path.name}: line {number} is no JSON object")
                record = {}
            yield number, record


def _records_of_list(path: Path, faults: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    content = _read_whole(path)
    if not isinstance(content, list):
        raise BadInput(f"{path} holds no JSON list of records; another --format?")
    for number, record in enumerate(content):
        if not isinstance(record, dict):
            faults.append(f"{path.name}: record {number} is no JSON object")
        yield number, record if isinstance(record, dict) else {}


def _read_whole(path: Path) -> Any:
    with open_text(path) as file:
        text = file.read(MAX_JSON_CHARACTERS + 1)
    if len(text) > MAX_JSON_CHARACTERS:
        raise BadInput(f"{path} has over {MAX_JSON_CHARACTERS} characters, which is no file of captions")
    try:
        return parse_json(text)
    except ValueError as error:
        raise BadInput(f"{path} is no JSON file: {error}") from error


def read_coco(path: Path, wanted: Columns, faults: list[str]) -> Iterator[Caption]:
    """COCO captions: `annotations` with id, image_id and caption, `images` with id and file_name."""
    data = _read_whole(path)
    if not isinstance(data, dict) or not isinstance(data.get("annotations"), list):
        raise BadInput(f'{path}: no COCO captions file (a JSON object with "annotations"); another --format?')
    _check_captions(data["annotations"], path)
    listed = data.get("images")
    names = {
        i["id"]: image_of(i.get(wanted.image or "file_name"))
        for i in (listed if isinstance(listed, list) else ())
        if isinstance(i, dict) and isinstance(i.get("id"), int | str)
    }
    for number, item in enumerate(data["annotations"]):
        row: dict[str, Any] = item if isinstance(item, dict) else {}
        if not isinstance(row.get(wanted.caption or "caption"), str):
            faults.append(f"{path.name}: annotation {number} has no caption")
        image_id = row.get("image_id")
        image = names.get(image_id) if isinstance(image_id, int | str) else None
        yield from rows_of(
            [clean(row.get(wanted.caption or "caption"))], image=image, key=row.get("id"), path=path
        )


def _check_captions(annotations: list[Any], path: Path) -> None:
    if annotations and isinstance(annotations[0], dict) and "bbox" in annotations[0]:
        raise BadInput(f"{path} holds COCO's boxes, not captions: give the captions_*.json beside it")


def read_karpathy(
    path: Path, wanted: Columns, faults: list[str], *, split: str | None = None
) -> Iterator[Caption]:
    """Karpathy's JSON: `images` with filename (below filepath, where there is one), split and `sentences`."""
    data = _read_whole(path)
    images = data.get("images") if isinstance(data, dict) else None
    if not isinstance(images, list):
        raise BadInput(f'{path}: not Karpathy\'s JSON (an object with "images"); another --format?')
    found = False
    for number, item in enumerate(images):
        image: dict[str, Any] = item if isinstance(item, dict) else {}
        if split is not None and image.get("split") != split:
            continue
        found = True
        sentences = image.get("sentences")
        if not isinstance(sentences, list):
            faults.append(f"{path.name}: image {number} has no sentences")
            sentences = [{}]
        reference = "/".join(
            part for name in ("filepath", wanted.image or "filename") if (part := image_of(image.get(name)))
        )
        for sentence in sentences:
            key = sentence.get("sentid") if isinstance(sentence, dict) else None
            yield from rows_of(captions_of([sentence]), image=reference or None, key=key, path=path)
    if images and not found:
        splits = sorted({readable(str(item.get("split"))) for item in images if isinstance(item, dict)})
        raise UserError(f"{path} has no split {split!r}; it has: {', '.join(splits)}")
