"""How much of an input is read before it is refused: what hostile files may cost, for the pipeline and the trainer."""

from typing import Final

MAX_TEXT_BYTES: Final = 16 * 2**20
"""Of a caption or JSON member: no caption is that long."""
MAX_LINE_CHARACTERS: Final = 16 * 2**20
"""Of a line of a text file."""
MAX_JSON_CHARACTERS: Final = 2**30
"""Of a JSON file that is read as a whole."""
MAX_HEADER_BYTES: Final = 2**20
"""Of the headers that stand before a tar's member."""
MAX_HEADERS: Final = 64
"""How many of them one member may have."""
MAX_MEMBER_BYTES: Final = 512 * 2**20
"""Of any other member of a tar, and of an image file."""
MAX_PIXELS: Final = 100_000_000
"""Of an image: a larger one is refused before it is decoded (a decompression bomb)."""
MAX_NAMED_FAULTS: Final = 100
"""How many faults are named where they are all counted."""
PICKLE_EXTENSIONS: Final = ("pkl", "pickle", "pyd", "pt", "pth", "ckpt", "npy", "npz", "joblib")
"""Members that a reader may unpickle: never read, never copied."""
