"""What a package page shows, and what the wheel brings: the README without what only a clone has."""

import json
import re
import runpy
import subprocess
import sys
from typing import Any

import pytest

from tests.places import ROOT

package_page = runpy.run_path(str(ROOT / "hatch_build.py"))["package_page"]


@pytest.fixture(scope="module")
def metadata() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "metadata"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def links(text: str) -> list[str]:
    """What the page leads to, as the package index shows it."""
    from readme_renderer import markdown

    page = markdown.render(text)
    assert page is not None
    assert "<table>" in page
    return re.findall(r'(?:href|src)="([^"]*)"', page)


def test_the_package_page_is_the_readme_by_the_address_that_is_given(metadata: dict[str, Any]) -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    address = metadata["urls"].get("Repository")
    assert metadata["readme"]["text"] == package_page(text, repository=address, version=metadata["version"])


@pytest.mark.filterwarnings("ignore")
def test_without_an_address_the_readme_leads_to_no_file() -> None:
    text = package_page((ROOT / "README.md").read_text("utf-8"), repository=None, version="7")
    places = links(text)
    assert places
    assert [place for place in places if not place.startswith(("https://", "#"))] == []
    assert "](docs/" not in text
    assert "docs/many-machines.md" in text


@pytest.mark.filterwarnings("ignore")
def test_with_an_address_every_link_and_picture_is_absolute_and_of_a_file_that_is_here() -> None:
    text = package_page(
        (ROOT / "README.md").read_text("utf-8"), repository="https://host/us/it/", version="7"
    )
    places = links(text)
    pictures = [place.removeprefix("https://host/us/it/raw/v7/") for place in places if "/raw/" in place]
    files = [place.removeprefix("https://host/us/it/blob/v7/") for place in places if "/blob/" in place]
    assert pictures
    assert len(files) > 10
    assert [path for path in pictures + files if not (ROOT / path.partition("#")[0]).is_file()] == []
    assert [place for place in places if not place.startswith(("https://", "#"))] == []


def test_classifiers_and_urls(metadata: dict[str, Any]) -> None:
    assert metadata["license"] == "Apache-2.0"
    assert "Topic :: Security" in metadata["classifiers"]
    assert metadata["urls"]["Paper"].startswith("https://")
    names = ("pipeline", "trainer", "cleanerclip-pipeline", "cleanerclip-trainer")
    assert set(names) <= set(metadata["scripts"])
