"""Images are passed on as they are, or named with what is wrong."""

import io
import random
import struct
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.captions import images
from pipeline.captions.images import check_image, read_images
from pipeline.captions.readers import InputOptions, open_source
from tests.small_inputs import image_bytes, write_tar


def huge_png() -> bytes:
    """A PNG whose header promises 100,000 x 100,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = ((13, header), (1, b"IDAT\0"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", size) + data + struct.pack(">I", zlib.crc32(data)) for size, data in chunks
    )


def webp() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "WEBP")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (image_bytes(format="JPEG"), ("ok", "jpg")),
        (image_bytes(), ("ok", "png")),
        (webp(), ("ok", "webp")),
        (image_bytes(format="JPEG", size=64)[:-20], ("broken", "")),
        (image_bytes()[:-20], ("broken", "")),
        (webp()[:-4], ("broken", "")),
        (b"", ("broken", "")),
        (b"<html>404</html>", ("broken", "")),
        (image_bytes(format="GIF"), ("broken", "")),
        (huge_png(), ("too_large", "")),
    ],
)
def test_check_image(data: bytes, expected: tuple[str, str]) -> None:
    assert check_image(data) == expected


def found(path: Path) -> tuple[list[tuple[list[str], str]], list[str]]:
    source = open_source(InputOptions(input=str(path)))
    rows = list(source.rows(path, faults=[]))
    faults: list[str] = []
    return [
        (sorted(m), status) for m, status in read_images(rows, format=source.format, faults=faults)
    ], faults


def test_tar_members_get_their_true_extension_and_keep_company(tmp_path: Path) -> None:
    members = {
        "1.jpg": image_bytes(),
        "1.txt": b"x",
        "1.cls": b"3",
        "2.jpg": b"broken",
        "2.txt": b"y",
        "3.txt": b"z",
    }
    images, faults = found(write_tar(tmp_path / "0.tar", members))
    assert images == [(["cls", "png", "txt"], "ok"), (["txt"], "broken"), (["txt"], "none")]
    assert faults == ["0.tar: image '2.jpg' of '2' is broken"]


def test_csv_images_are_relative_to_the_csv(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(image_bytes())
    (tmp_path / "a.csv").write_text("image,caption\nimages/1.png,a dog\nimages/2.png,a cat\n")
    images, faults = found(tmp_path / "a.csv")
    assert images == [(["png"], "ok"), ([], "missing")]
    assert len(faults) == 1


def test_parquet_images_by_row(tmp_path: Path) -> None:
    table = pa.table(
        {"text": list("abcd"), "image": [{"bytes": image_bytes(), "path": ""}, None, {"bytes": b"?"}, None]}
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    assert [status for _, status in found(tmp_path / "a.parquet")[0]] == ["ok", "none", "broken", "none"]


def jpegs() -> list[bytes]:
    """Pictures as several programs write them: grey, coloured, CMYK, progressive, with a comment, a resolution."""
    files = []
    for mode in ("L", "RGB", "CMYK"):
        for more in ({}, {"progressive": True}, {"comment": b"hi"}, {"dpi": (72, 72)}):
            file = io.BytesIO()
            Image.new(mode, (40, 30)).save(file, "JPEG", **more)
            files.append(file.getvalue())
    return files


def test_plain_jpegs_are_judged_as_pillow_judges_them(monkeypatch: pytest.MonkeyPatch) -> None:
    draw, whole = random.Random(0), jpegs()
    assert sum(images._plain_jpeg_size(data) == (40, 30) for data in whole) == 8
    files = whole + [changed(draw.choice(whole), draw) for _ in range(1_500)]
    ours = [check_image(data) for data in files]
    plain = sum(images._plain_jpeg_size(data) is not None for data in files)
    monkeypatch.setattr(images, "_plain_jpeg_size", lambda _: None)
    assert ours == [check_image(data) for data in files]
    assert 300 < plain < 1_200
    assert {status for status, _ in ours} >= {"ok", "broken"}


def changed(data: bytes, draw: random.Random) -> bytes:
    """With some bytes of its headers changed, left out or put in."""
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 3))):
        at = draw.randrange(min(len(found), 640))
        how = draw.random()
        if how < 0.6:
            found[at] = draw.randrange(256)
        elif how < 0.8:
            del found[at : at + draw.randrange(1, 5)]
        else:
            found[at:at] = bytes(
                draw.choice((0, 255, draw.randrange(256))) for _ in range(draw.randrange(1, 4))
            )
    return bytes(found)
