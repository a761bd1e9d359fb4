"""What the documents show exists: commands, options, files, benchmarks; and they show every command and option."""

import ast
import re
import shlex
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import typer.main

from pipeline.cli import app as pipeline_app
from tests.places import ROOT
from trainer.cli import app as trainer_app

COMMAND_PAGE = ROOT / "docs" / "commands.md"
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS: dict[str, Any] = {
    "pipeline": typer.main.get_command(pipeline_app),
    "trainer": typer.main.get_command(trainer_app),
}
HISTORY = ("CHANGELOG.md", "LOG.md")
"""What they name may be gone."""
PLACES = r"pipeline|trainer|tests|benchmarks|docs|lexicons|data_manifests|\.ci"


def shown(path: Path) -> list[list[str]]:
    """The words of each `pipeline ...` and `trainer ...` in the document's code blocks and code spans."""
    text = path.read_text("utf-8")
    spans = re.findall(r"`((?:pipeline|trainer) [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    found = [re.split(r"\s[#|]\s", line)[0].split() for line in [*code_lines(text), *spans]]
    return [words for words in found if len(words) > 1 and words[0] in COMMANDS and words[1].isascii()]


def code_lines(text: str) -> list[str]:
    """The lines of the code blocks; those that end in a backslash go on."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def all_commands(command: Any = None, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command, the words that call it before it."""
    for name, found in (COMMANDS if command is None else command.commands).items():
        if hasattr(found, "commands"):
            yield from all_commands(found, *names, name)
        else:
            yield (*names, name), found


EVERY_COMMAND = dict(all_commands())
SHOWN = [words for path in DOCUMENTS for words in shown(path)]


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


@pytest.mark.parametrize("names", EVERY_COMMAND, ids=" ".join)
def test_every_command_and_option_has_an_example(names: tuple[str, ...]) -> None:
    """An option that several commands share is shown with one of them, a help panel's with the command itself."""
    own = {word for words in SHOWN if tuple(words[: len(names)]) == names for word in words}
    assert own, f"no document shows `{' '.join(names)}`"
    everywhere = {word for words in SHOWN for word in words}
    options = [each for each in EVERY_COMMAND[names].params if each.param_type_name == "option"]
    lacking = [each.opts[0] for each in options if not everywhere & {*each.opts, *each.secondary_opts}]
    assert lacking == [], f"docs/commands.md shows no example of {' '.join(names)} with these"
    panels = {each.rich_help_panel for each in options if each.rich_help_panel}
    told = {each.rich_help_panel for each in options if own & {*each.opts, *each.secondary_opts}}
    assert panels <= told


@pytest.mark.parametrize("names", EVERY_COMMAND, ids=" ".join)
def test_every_command_and_option_is_explained(names: tuple[str, ...]) -> None:
    command = EVERY_COMMAND[names]
    assert command.help
    assert command.params
    assert [each.name for each in command.params if each.name != "help" and not each.help] == []


@pytest.mark.parametrize("line", code_lines(COMMAND_PAGE.read_text("utf-8")))
def test_the_examples_of_the_command_page_are_understood(line: str) -> None:
    words = shlex.split(line)
    (names,) = (names for names in EVERY_COMMAND if tuple(words[: len(names)]) == names)
    EVERY_COMMAND[names].make_context(" ".join(names), words[len(names) :])  # parses, and runs nothing


@pytest.mark.parametrize(
    "path", [path for path in DOCUMENTS if path.name not in HISTORY], ids=lambda path: path.name
)
def test_files_that_are_named_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    named = set(re.findall(rf"(?<![\w/.-])((?:{PLACES})/[\w./*-]*[\w/*])", text.replace("NAME", "*")))
    links = re.findall(r"\]\(([\w./-]+)(?:#[\w-]*)?\)", text)
    named |= {str((path.parent / link).resolve().relative_to(ROOT)) for link in links}
    modules = re.findall(r"python -m ((?:pipeline|benchmarks)[\w.]+)", text)
    named |= {f"{name.replace('.', '/')}.py" for name in modules}
    assert [name for name in sorted(named) if not any(ROOT.glob(name))] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_benchmarks_have_the_options_that_are_shown(path: Path) -> None:
    text = path.read_text("utf-8").replace("\\\n", " ")
    for module, line in re.findall(r"python -m (benchmarks\.\w+)([^`\n]*)", text):
        source = (ROOT / f"{module.replace('.', '/')}.py").read_text("utf-8")
        own = line.split(" -- ")[0]  # behind it: the command's that the benchmark calls
        lacking = [option for option in re.findall(r"--[\w-]+", own) if f'"{option}"' not in source]
        assert lacking == [], f"{module} has no such option"


def test_the_file_tree_is_the_one_that_is_there() -> None:
    """Each name of the tree exists, and each room stands in it."""
    (tree,) = re.findall(
        r"^```\n(pipeline/ .*?)^```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.M | re.S
    )
    found, room = set(), ""
    for line in tree.splitlines():
        names = re.split(r"\s{2,}", line.strip())[0].split()
        room = room if line.startswith(" ") else names[0]
        found |= {room + name for name in names} if line.startswith(" ") else {room}
    files = {name if name.endswith("/") else f"{name}.py" for name in found}
    assert [name for name in sorted(files) if not (ROOT / name).exists()] == []
    rooms = {
        path.parent.relative_to(ROOT)
        for half in ("pipeline", "trainer")
        for path in ROOT.glob(f"{half}/*/*.*")
    }
    assert {f"{path}/" for path in rooms if path.name != "__pycache__"} <= found


def undocumented(room: ast.Module | ast.ClassDef, documented: dict[str, set[str]]) -> Iterator[str]:
    """The public names of a module or class without a docstring; a method has its base's, of the same file."""
    inherited: set[str] = set()
    if isinstance(room, ast.ClassDef):
        inherited = set().union(*(documented.get(ast.unparse(base), set()) for base in room.bases))
        documented[room.name] = inherited | {each.name for each in public(room) if ast.get_docstring(each)}
    for each in public(room):
        if not ast.get_docstring(each) and each.name not in inherited:
            yield each.name
        if isinstance(each, ast.ClassDef):
            yield from undocumented(each, documented)


def public(room: ast.Module | ast.ClassDef) -> list[ast.FunctionDef | ast.ClassDef]:
    found = [each for each in room.body if isinstance(each, ast.FunctionDef | ast.ClassDef)]
    return [each for each in found if not each.name.startswith("_")]


@pytest.mark.parametrize("half", ["pipeline", "trainer"])
def test_every_public_function_and_class_is_documented(half: str) -> None:
    lacking, num = [], 0
    for path in (ROOT / half).rglob("*.py"):
        module = ast.parse(path.read_text("utf-8"))
        lacking += [f"{path.name}: {name}" for name in undocumented(module, {})]
        lacking += [] if ast.get_docstring(module) else [path.name]
        num += len(public(module))
    assert lacking == []
    assert num > 200


def test_a_function_without_a_docstring_is_seen() -> None:
    source = "class A:\n '''x'''\n def b(self): '''x'''\nclass C(A):\n def b(self): ...\n def d(self): ..."
    assert list(undocumented(ast.parse(source), {})) == ["C", "d"]


def test_no_document_cites_a_page_that_is_not_here() -> None:
    assert [
        path.name for path in DOCUMENTS if re.search(r"house-style|shared/(?!data)", path.read_text("utf-8"))
    ] == []


def test_findings_stand_under_their_day() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "docs" / "LOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings == sorted((date.fromisoformat(day).isoformat() for day in headings), reverse=True)


def test_code_for_gpus_is_listed_where_none_was_at_hand() -> None:
    _, _, listed = (ROOT / "docs" / "training.md").read_text("utf-8").partition("## Not tried on a GPU")
    files = [path.relative_to(ROOT) for path in sorted((ROOT / "trainer").rglob("*.py"))]
    with_cuda = [f for f in files if re.search(r'torch\.cuda|"cuda"|"nccl"', (ROOT / f).read_text("utf-8"))]
    assert len(with_cuda) > 5
    assert [str(file) for file in with_cuda if f"`{file}`" not in listed] == []
