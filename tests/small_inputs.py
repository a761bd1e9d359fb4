"""Small inputs that tests write on the spot."""

import io
import tarfile
from pathlib import Path

from PIL import Image


def image_bytes(color: tuple[int, int, int] = (200, 30, 30), size: int = 8, format: str = "PNG") -> bytes:
    """A small image of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (size, size), color).save(file, format)
    return file.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    """A tar of these members, in this order."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path
