"""Where the project and the real data beside it are; read by tests."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
REAL_DATA = ROOT.parent / "shared" / "data"
