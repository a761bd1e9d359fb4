"""What a package page shows, and what the wheel brings: the README without what only a clone has."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.places import ROOT


@pytest.fixture(scope="module")
def metadata() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "metadata"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.filterwarnings("ignore")
def test_the_readme_reads_on_a_package_page(metadata: dict[str, Any]) -> None:
    from readme_renderer import markdown

    text = metadata["readme"]["text"]
    page = markdown.render(text)
    assert page is not None
    assert "<table>" in page
    places = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert places
    assert [place for place in places if not place.startswith(("https://", "#"))] == []
    assert "](docs/" not in text
    words = re.sub(r"\W+", " ", text)
    assert "docs my checkpoint" in words or "docs commands md" in words


def test_classifiers_and_urls(metadata: dict[str, Any]) -> None:
    assert metadata["license"] == "Apache-2.0"
    assert "Topic :: Security" in metadata["classifiers"]
    assert metadata["urls"]["Paper"].startswith("https://")
    names = ("pipeline", "trainer", "cleanerclip-pipeline", "cleanerclip-trainer")
    assert set(names) <= set(metadata["scripts"])
