"""How both command lines end: one line for a mistake, never a traceback for bad input."""

import sys

import typer
from typer.exceptions import TyperException

from pipeline.errors import UserError


def run(app: typer.Typer, program: str) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    try:
        code = app(prog_name=program, standalone_mode=False)
    except TyperException as error:
        message = getattr(error, "format_message", error.__str__)()
        _fail(program, f"{message} (see {program} --help)", getattr(error, "exit_code", 2))
    except UserError as error:
        _fail(program, str(error), 1)
    except OSError as error:
        _fail(program, str(error), 1)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(program: str, message: str, code: int) -> None:
    print(f"{program}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
