"""What people expect of a command: names, --quiet, completion, NO_COLOR, one line for what is not installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(
    *arguments: str, absent: tuple[str, ...] = (), name: str = "", environment: dict[str, str] | None = None
) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `python -m arguments`, some packages hidden, perhaps called by another name."""
    module, *rest = arguments
    hidden = "".join(f"sys.modules[{package!r}] = None; " for package in absent)
    program = (
        f"import sys; {hidden}sys.argv = {[name or module, *rest]!r}; from {module}.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=os.environ | (environment or {}),
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_python_m_is_the_command() -> None:
    for module in ("pipeline", "trainer"):
        done = subprocess.run(
            [sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True
        )
        assert done.stdout == f"{module} 0.1.0\n"


def test_the_second_name_is_told() -> None:
    code, out, _ = run("trainer", "-h", name="/usr/bin/cleanerclip-trainer")
    assert (code, out.split()[1]) == (0, "cleanerclip-trainer")


def test_a_lexicon_is_built_without_nltk_in_one_line(tmp_path: Path) -> None:
    code, _, error = run(
        "pipeline", "build-lexicons", "--out", str(tmp_path), "--size", "10", absent=("nltk",)
    )
    assert (code, error) == (1, "pipeline: nltk is not installed: pip install 'cleanerclip[lexicons]'\n")


def test_data_sets_are_listed_in_a_pipeline_only_install() -> None:
    code, out, _ = run(
        "trainer", "data", "list", absent=("torch", "torchvision", "open_clip", "webdataset", "numpy")
    )
    assert (code, "imagenet1k" in out) == (0, True)
    code, out, _ = run("trainer", "data", "list", "--json", absent=("torch", "numpy"))
    assert (code, "imagenet1k" in json.loads(out)) == (0, True)


def test_quiet_says_nothing_but_what_fails(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("a black dog chasing a red ball\thttp://x/1\n")
    code, out, error = run(
        "pipeline", "parse-captions", str(tmp_path / "a.tsv"), "--out", str(tmp_path / "o"), "--quiet"
    )
    assert (code, error, "1 of 1 rows ok" in out) == (0, "", True)
    code, _, error = run("pipeline", "parse-captions", "nowhere.tsv", "--out", str(tmp_path / "p"), "--quiet")
    assert (code, len(error.splitlines())) == (1, 1)


@pytest.mark.parametrize(
    ("words", "found"), [("pipeline au", "augment-captions"), ("pipeline query --for", "--format")]
)
def test_the_shell_completes_commands_and_options(words: str, found: str) -> None:
    asked = {
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
        "_PIPELINE_COMPLETE": "complete_bash",
    }
    assert found in run("pipeline", environment=asked)[1]


def test_no_colour_where_none_is_wanted() -> None:
    out = run("pipeline", "augment-captions", "-h", environment={"NO_COLOR": "1", "FORCE_COLOR": "1"})[1]
    assert "\x1b[" not in out
