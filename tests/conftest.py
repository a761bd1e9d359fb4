"""What every test may use: the real data beside the project."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.places import REAL_DATA


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """A path below the folder of real data sets; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        if not (REAL_DATA / name).exists():
            pytest.skip(f"the real data {name} is not beside the project (../shared/data)")
        return REAL_DATA / name

    return find
