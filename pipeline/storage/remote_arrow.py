"""Remote paths as Arrow's data sets ask for them: with our own requests, and their being made again."""

import pyarrow as pa
import pyarrow.fs

from pipeline.storage.remote import place


class _Handler(pyarrow.fs.FSSpecHandler):  # type: ignore[misc]
    """Reads files by their URLs; of what a file system does beyond that, nothing."""

    def __init__(self) -> None:
        super().__init__(self)

    protocol = "cleanerclip"

    def open_input_file(self, path: str) -> pa.PythonFile:
        return pa.PythonFile(place(path).open("rb"), mode="r")

    def get_file_info(self, paths: list[str]) -> list[pyarrow.fs.FileInfo]:
        return [
            pyarrow.fs.FileInfo(path, pyarrow.fs.FileType.File, size=place(path).stat().st_size)
            for path in paths
        ]

    def normalize_path(self, path: str) -> str:
        return path


def file_system() -> pyarrow.fs.FileSystem:
    """A file system whose paths are URLs."""
    return pyarrow.fs.PyFileSystem(_Handler())
