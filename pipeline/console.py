"""How both command lines are made and end: commands loaded when called, options from dataclasses, mistakes in a line.

A command is a typed function. A parameter that is a frozen options dataclass becomes one option per field, with the
field's type, default and docstring; nothing of an option is written twice.
"""

import ast
import inspect
import io
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import redirect_stderr
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache, wraps
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
import typer.main
from typer.core import TyperGroup
from typer.exceptions import TyperException

from pipeline.errors import UserError


# ------------------------------------------------------------------------------------------- options from dataclasses
@dataclass(frozen=True, slots=True, kw_only=True)
class OneOf:
    """Marks a parameter whose dataclass another option chooses: the options of all, each None where not given."""

    chooser: str
    """The parameter that names the choice."""
    classes: Mapping[str, type[Any]]
    build: Callable[[str, dict[str, Any]], Any]
    """(choice, what was given) -> the options; says which option does not go with the choice."""


def from_options(
    *, omit: Collection[str] = (), defaults: Mapping[str, Any] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes a command of a function with dataclass parameters: each field an option, the dataclass built of them.

    A field that `omit` names is no option and keeps its default; one that is a parameter of the function itself is
    that parameter, for the dataclass, too. `defaults` gives some fields another default than their class does. A
    field's metadata may hold `name`, the option's where it is not the field's, and `none`, a word that means None.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        hints = get_type_hints(function, include_extras=True)
        plain = inspect.signature(function).parameters
        groups = {name: group for name in plain if (group := _group_of(hints[name]))}
        choices = {name: mark for name in plain if (mark := _one_of(hints[name]))}
        parameters: list[inspect.Parameter] = []
        for name, parameter in plain.items():
            if name in groups:
                own = {*plain} - {*groups, *choices}
                wanted = is_dataclass(hints[name])
                parameters += _options_of(
                    groups[name], omit=omit, own=own, defaults=defaults or {}, wanted=wanted
                )
            elif name in choices:
                parameters += _options_of_all(choices[name].classes, omit=omit)
            else:
                parameters.append(parameter.replace(annotation=hints[name]))

        @wraps(function)
        def command(**given: Any) -> Any:
            given = {name: _placed(value) for name, value in given.items()}
            arguments = {name: given[name] for name in plain if name in given}
            for name, group in groups.items():
                arguments[name] = _build(group, given, omit=omit, wanted=is_dataclass(hints[name]))
            for name, mark in choices.items():
                known = {field.name for options in mark.classes.values() for field in fields(options)}
                chosen = {key: given[key] for key in known - set(omit) if given[key] is not None}
                arguments[name] = mark.build(given[mark.chooser], chosen)
            return function(**arguments)

        keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        command.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in keyword}
        return command

    return decorate


def _placed(value: Any) -> Any:
    """A path that an option gives; that of a URL is one of its store."""
    if not isinstance(value, Path) or not value.parts[:1] or not value.parts[0].endswith(":"):
        return value
    from pipeline.storage import place  # with Arrow, which no other command line waits for

    return place(value)


def _group_of(hint: Any) -> Any:
    """The dataclass of a parameter that is one, or one or None; None for any other."""
    return next((k for k in (hint, *get_args(hint)) if isinstance(k, type) and is_dataclass(k)), None)


def _build(group: Any, given: Mapping[str, Any], *, omit: Collection[str], wanted: bool) -> Any:
    """The dataclass from what was given; None where it is not `wanted` and lacks what it must have."""
    values = {}
    for field in fields(group):
        if field.name in omit or _name(field) not in given:
            continue
        value = given[_name(field)]
        if value is None and _required(field) and not wanted:
            return None
        values[field.name] = tuple(value) if isinstance(value, list) else value
    return group(**values)


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _one_of(hint: Any) -> OneOf | None:
    return next((mark for mark in get_args(hint)[1:] if isinstance(mark, OneOf)), None)


def _options_of(
    group: Any, *, omit: Collection[str], own: Collection[str], defaults: Mapping[str, Any], wanted: bool
) -> Iterator[inspect.Parameter]:
    hints, helps = get_type_hints(group), field_docs(group)
    for field in fields(group):
        if field.name in omit or _name(field) in own:
            continue
        default = defaults.get(field.name, field.default)
        option: dict[str, Any] = {"help": helps[field.name]}
        kind = hints[field.name]
        if default is MISSING and not wanted:
            default, kind = None, kind | None
        if get_origin(kind) is tuple:  # any number of values
            default, kind = [], list[get_args(kind)[0]]  # type: ignore[misc]
            option["show_default"] = False
        if word := field.metadata.get("none"):  # what None is called where it is not the default
            option |= {"parser": _number_or(word, field.name), "metavar": f"INTEGER|{word}"}
            kind = Any
        yield inspect.Parameter(
            _name(field),
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if default is MISSING else default,
            annotation=Annotated[kind, typer.Option(**option)],
        )


def _name(field: Field[Any]) -> str:
    """What the option is called: as the field, where its metadata gives no other `name`."""
    return str(field.metadata.get("name", field.name))


def _options_of_all(classes: Mapping[str, Any], *, omit: Collection[str]) -> Iterator[inspect.Parameter]:
    """One option per field name of the classes; its help says whose it is, and what each has by default."""
    owners: dict[str, dict[str, list[str]]] = {}
    kinds: dict[str, Any] = {}
    for choice, options in classes.items():
        hints, docs = get_type_hints(options), field_docs(options)
        for field in fields(options):
            if field.name in omit:
                continue
            kinds.setdefault(field.name, hints[field.name])
            told = choice if field.default is None else f"{choice} {_shown(field.default)}"
            owners.setdefault(field.name, {}).setdefault(docs[field.name], []).append(told)
    for name, helps in owners.items():
        told = " ".join(f"{text} [{', '.join(whose)}]" for text, whose in helps.items())
        kind: Any = kinds[name] | None
        yield inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind, typer.Option(help=told, show_default=False)],
        )


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    return f"{default:.4g}" if isinstance(default, float) else str(default)


def _number_or(word: str, name: str) -> Callable[[Any], int | None]:
    def parse(text: Any) -> int | None:
        if text == word:
            return None
        if not str(text).isdigit() or int(text) < 1:
            raise UserError(f"{name} must be a number of at least 1, or {word}, not {text!r}")
        return int(text)

    return parse


@cache
def field_docs(group: Any) -> dict[str, str]:
    """The docstring below each field of a dataclass, on one line; "" where there is none."""
    found: dict[str, str] = {}
    for owner in reversed(group.__mro__):
        if not is_dataclass(owner):
            continue
        source: str = inspect.getsource(owner)  # type: ignore[arg-type]  # a class
        (tree,) = ast.parse(textwrap.dedent(source)).body
        assert isinstance(tree, ast.ClassDef)
        for statement, below in zip(tree.body, [*tree.body[1:], None], strict=True):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                told = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
                text = str(below.value.value) if told else ""  # type: ignore[union-attr]
                found[statement.target.id] = " ".join(text.split())
    return {field.name: found[field.name] for field in fields(group)}


# ------------------------------------------------------------------------------------------ commands loaded when called
@dataclass(frozen=True, slots=True)
class Command:
    """Where a command's function is, and what the list of commands says of it."""

    place: str
    """`package.module:name`; the name is a function, or a Typer application of its own."""
    summary: str


class _Loaded(Mapping[str, Any]):
    """The commands by name; a command's module is imported when the command is asked for."""

    def __init__(self, commands: Mapping[str, Command]) -> None:
        self.commands = commands

    def __getitem__(self, name: str) -> Any:
        module, _, attribute = self.commands[name].place.partition(":")
        found = getattr(import_module(module), attribute)
        if not isinstance(found, typer.Typer):
            single = new_app()
            single.command(name)(found)
            found = single
        loaded = typer.main.get_command(found)
        loaded.name = name
        for command in (loaded, *getattr(loaded, "commands", {}).values()):
            if not hasattr(command, "commands"):
                command.params.append(_quiet_option())
        return loaded

    def __iter__(self) -> Iterator[str]:
        return iter(self.commands)

    def __len__(self) -> int:
        return len(self.commands)


class _Nowhere(io.TextIOBase):
    """Takes what is written and keeps nothing."""

    def write(self, text: str) -> int:
        return len(text)


def _quiet_option() -> Any:
    """`--quiet`, of every command: what is said on stderr while it runs is not; what fails still is."""

    def hush(ctx: typer.Context, quiet: bool) -> None:
        if quiet and not ctx.resilient_parsing:
            ctx.with_resource(redirect_stderr(_Nowhere()))

    told = "Say nothing on stderr but what fails."
    option = typer.Option("--quiet", help=told, callback=hush, is_eager=True, expose_value=False)
    single = new_app()

    @single.command()
    def _only(quiet: Annotated[bool, option] = False) -> None: ...

    return next(each for each in typer.main.get_command(single).params if each.name == "quiet")


def lazy_app(help: str, commands: Mapping[str, Command]) -> typer.Typer:
    """An application of these commands; its help lists them without importing one."""

    class Group(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands = _Loaded(commands)  # type: ignore[assignment]

        def format_commands(self, ctx: Any, formatter: Any) -> None:
            with formatter.section("Commands"):
                formatter.write_dl([(name, command.summary) for name, command in commands.items()])

    return new_app(help=help, cls=Group, no_args_is_help=True, add_completion=True)


def new_app(**settings: Any) -> typer.Typer:
    """A Typer application as all of ours are: plain help, whose option names are never cut; `-h`; our own errors."""
    settings.setdefault("add_completion", False)
    return typer.Typer(
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        **settings,
    )


INTERRUPTED = 130
_KEPT = "what is finished is kept: the same command continues"


class _Terminated(BaseException):
    """SIGTERM, as Ctrl-C is KeyboardInterrupt: whoever cleans up behind that does so now."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


def run(app: typer.Typer, program: str, *, extras: Mapping[str, str]) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated.

    `program` is what its command is called: also as `cleanerclip-PROGRAM`, and as `python -m PROGRAM`. `extras` says
    of packages which extra of the distribution installs them; one that is absent is said in a line.
    """
    program = _called(program)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = app(prog_name=program, standalone_mode=False)
    except _Terminated:
        _fail(program, f"terminated; {_KEPT}", 143)
    except TyperException as error:
        message = getattr(error, "format_message", error.__str__)()
        _fail(program, f"{message} (see {program} --help)", getattr(error, "exit_code", 2))
    except UserError as error:
        _fail(program, str(error), 1)
    except OSError as error:
        _fail(program, str(error), 1)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in extras:
            raise
        _fail(program, f"{package} is not installed: pip install 'cleanerclip[{extras[package]}]'", 1)
    if code == INTERRUPTED:
        _fail(program, f"interrupted; {_KEPT}", INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _called(program: str) -> str:
    """The name the program was called by, where that is one of its own: shells complete by it."""
    name = Path(sys.argv[0]).stem
    return name if name == f"cleanerclip-{program}" else program


def _fail(program: str, message: str, code: int) -> None:
    print(f"{program}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def limit_threads() -> None:
    """One thread for linear algebra in this process: one process a core is enough, and the sums keep their order."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"):
        os.environ[name] = "1"
