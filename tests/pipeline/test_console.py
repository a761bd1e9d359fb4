"""Options come from their dataclasses: help, default and type, once; a command is imported when it is called."""

import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import Annotated, Any, Literal

import pytest
import typer
import typer.main

from pipeline.cli import COMMANDS as PIPELINE
from pipeline.console import OneOf, field_docs, from_options, new_app, run
from pipeline.errors import UserError
from trainer.cli import COMMANDS as TRAINER
from trainer.cli import app as trainer_app


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large."""

    width: int = 3
    """Across, in
    pixels."""
    kind: Literal["round", "square"] = "round"
    """Its shape."""
    most: int | None = field(default=5, metadata={"none": "all", "name": "limit"})
    """How many."""
    names: tuple[str, ...] = ()
    """Any number."""
    hidden: float = 0.5

    def __post_init__(self) -> None:
        if self.width < 1:
            raise UserError(f"width must be at least 1, not {self.width}")


@dataclass(frozen=True, kw_only=True)
class Colour:
    """Which colour."""

    depth: int = 8
    """Bits."""


Call = Callable[..., tuple[int | str | None, str, str]]
seen: list[Any] = []


@from_options()
def draw(
    way: Annotated[Literal["size", "colour"], typer.Option(help="Which.")] = "size",
    chosen: Annotated[
        Any, OneOf(chooser="way", classes={"colour": Colour}, build=lambda way, given: (way, given))
    ] = None,
) -> None:
    """Draw it."""
    seen.append(chosen)


@from_options(omit=("hidden",), defaults={"width": 7})
def plain(size: Size) -> None:
    """Draw it."""
    seen.append(size)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    app = new_app()
    app.command()(plain)

    def call(*words: str) -> tuple[int | str | None, str, str]:
        monkeypatch.setattr("sys.argv", ["plain", *words])
        with pytest.raises(SystemExit) as stopped:
            run(app, "plain", extras={})
        out, error = capsys.readouterr()
        return stopped.value.code, out, error

    return call


def test_fields_become_options_with_their_docstrings(call: Call) -> None:
    _, out, _ = call("--help")
    text = " ".join(out.split())
    assert "--width <int> Across, in pixels. [default: 7]" in text
    assert "--kind <round|square> Its shape. [default: round]" in text
    assert "--limit INTEGER|all How many. [default: 5]" in text
    assert "--hidden" not in text


def test_the_dataclass_is_built_of_what_was_given(call: Call) -> None:
    call("--kind", "square", "--limit", "all", "--names", "a", "--names", "b")
    assert seen.pop() == Size(width=7, kind="square", most=None, names=("a", "b"))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--width", "0"), 1, "plain: width must be at least 1, not 0"),
        (("--limit", "few"), 2, "most must be a number of at least 1, or all"),
        (("--kind", "oval"), 2, "'round', 'square'"),
    ],
)
def test_a_mistake_is_one_line(call: Call, words: tuple[str, ...], code: int, said: str) -> None:
    found, _, error = call(*words)
    assert found == code
    assert said in error
    assert len(error.splitlines()) == 1


def test_a_choice_takes_the_options_of_all_and_builds_of_those_given() -> None:
    parameters = typer.main.get_command(_app(draw)).params
    told = {parameter.name: getattr(parameter, "help", "") for parameter in parameters}
    assert told["depth"] == "Bits. [colour 8]"
    with pytest.raises(SystemExit):
        run_with(draw, "--way", "colour", "--depth", "4")
    assert seen.pop() == ("colour", {"depth": 4})


def _app(function: Callable[..., Any]) -> typer.Typer:
    app = new_app()
    app.command()(function)
    return app


def run_with(function: Callable[..., Any], *words: str) -> None:
    import sys

    before, sys.argv = sys.argv, ["command", *words]
    try:
        run(_app(function), "command", extras={})
    finally:
        sys.argv = before


@pytest.mark.parametrize(
    "command", [*PIPELINE.values(), *TRAINER.values()], ids=lambda command: command.place
)
def test_the_list_of_commands_says_what_the_command_does(command: Any) -> None:
    module, _, name = command.place.partition(":")
    found = getattr(__import__(module, fromlist=[name]), name)
    assert len(command.summary) < 90
    assert callable(found)


def test_defends_help_is_its_dataclasses() -> None:
    from trainer.batches import BatchOptions
    from trainer.optim import OptimOptions
    from trainer.train import TrainOptions

    params = {p.name: p for p in typer.main.get_command(trainer_app).commands["defend"].params}  # type: ignore[attr-defined]
    for group in (BatchOptions, OptimOptions, TrainOptions):
        docs = field_docs(group)
        for each in fields(group):
            assert params[each.name].help == docs[each.name] != ""
            assert each.default is MISSING or params[each.name].default == each.default


def test_no_options_name_is_cut_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name, command in typer.main.get_command(trainer_app).commands.items():  # type: ignore[attr-defined]
        context = command.make_context(name, [], resilient_parsing=True)
        text = command.get_help(context)
        for parameter in command.params:
            for option in parameter.opts:
                assert not option.startswith("--") or re.search(rf"{option}[ ,\n]", text)
        assert all(len(line) <= 80 or line.strip().startswith("--") for line in text.splitlines())
