"""The README as a package page has it, where no folder lies beside it: hatchling calls this when it builds.

With an address of the repository under `[project.urls]` (`Repository`), links and pictures become absolute ones, of the
version's tag; without one, pictures are left out, links become their text, and a last line says where the files are.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)\s]*)\)")
NOWHERE = "\nThe documents named here are in the source distribution, under `docs/`.\n"


def package_page(text: str, *, repository: str | None, version: str) -> str:
    """The text with every link of a file made absolute, as GitHub addresses files, or taken out."""

    def place(link: re.Match[str]) -> str:
        picture, told, path = link.groups()
        if repository is None:
            return "" if picture else told
        return f"{picture}[{told}]({repository.rstrip('/')}/{'raw' if picture else 'blob'}/v{version}/{path})"

    found = LINK.sub(place, text)
    return found if repository else re.sub(r"\n{3,}", "\n\n", found) + NOWHERE


class CustomMetadataHook(MetadataHookInterface):
    """Hatchling's hook of this name."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Puts the page into the project's metadata."""
        text = package_page(
            (Path(self.root) / "README.md").read_text("utf-8"),
            repository=metadata.get("urls", {}).get("Repository"),
            version=metadata["version"],
        )
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
