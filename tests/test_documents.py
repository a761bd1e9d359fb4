"""Every command that the documents show exists, with every option that they give it."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from pipeline.cli import app as pipeline_app
from tests.places import ROOT
from trainer.cli import app as trainer_app

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS: dict[str, Any] = {
    "pipeline": typer.main.get_command(pipeline_app),
    "trainer": typer.main.get_command(trainer_app),
}


def shown(path: Path) -> list[list[str]]:
    """The words of each `pipeline ...` and `trainer ...` in the document's code blocks and code spans."""
    text = path.read_text("utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    spans = re.findall(r"`((?:pipeline|trainer) [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    found = [re.split(r"\s[#|]\s", line)[0].split() for line in [*lines, *spans]]
    return [words for words in found if len(words) > 1 and words[0] in COMMANDS and words[1].isascii()]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_options_exist(path: Path) -> None:
    wrong = []
    for words in shown(path):
        command, rest = COMMANDS[words[0]], words[1:]
        while rest and rest[0] in getattr(command, "commands", {}):
            command, rest = command.commands[rest[0]], rest[1:]
        options = {name for parameter in command.params for name in parameter.opts + parameter.secondary_opts}
        given = {word.split("=")[0] for word in rest if word.startswith("--") and len(word) > 2}
        if (hasattr(command, "commands") and given != {"--help"}) or not given <= options | {"--help"}:
            wrong.append(" ".join(words))
    assert wrong == []


def test_the_readme_shows_both_halves() -> None:
    names = {words[0] for words in shown(ROOT / "README.md")}
    assert names == set(COMMANDS)
    assert len(shown(ROOT / "README.md")) > 10
