"""What every test may use: the real data beside the project."""

from collections.abc import Callable
from pathlib import Path

import pytest

DATA = Path(__file__).parent.parent.parent / "shared" / "data"


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """A path below the folder of real data sets; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        if not (DATA / name).exists():
            pytest.skip(f"the real data {name} is not beside the project (../shared/data)")
        return DATA / name

    return find
