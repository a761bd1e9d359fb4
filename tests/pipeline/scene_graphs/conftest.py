"""The bundled parser, loaded once for all tests of graphs."""

import pytest

from pipeline.scene_graphs.parser import CaptionParser


@pytest.fixture(scope="session")
def parser() -> CaptionParser:
    """The bundled one."""
    return CaptionParser()
