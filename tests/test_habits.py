"""What people expect of a command: names, --quiet, completion, NO_COLOR, one line for what is not installed."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline import cli as pipeline_cli
from tests.places import ROOT
from trainer import cli as trainer_cli


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


@pytest.mark.parametrize(
    ("line", "absent", "extra"),
    [
        ("trainer report a.json b.json --out c.html", "matplotlib", "report"),
        ("trainer audit --checkpoint a.pt --data b.tar --out c.html", "matplotlib", "report"),
        ("trainer inspect a.pt", "torch", "trainer"),
        ("trainer inspect a.safetensors", "safetensors", "trainer"),
        ("trainer evaluate --checkpoint a.pt --data b.tar", "open_clip", "trainer"),
    ],
)
def test_what_is_not_installed_is_one_line_before_anything_is_done(
    line: str, absent: str, extra: str
) -> None:
    code, out, error = run(*line.split(), absent=(absent,))
    program = line.split(maxsplit=1)[0]
    expected = f"{program}: {absent} is not installed: pip install 'cleanerclip[{extra}]'\n"
    assert (code, out, error) == (1, "", expected)


def test_scikit_learn_is_asked_for_by_name() -> None:
    code, out, error = run("pipeline", "audit-negatives", "cf", absent=("sklearn",))
    expected = "pipeline: audit-negatives needs scikit-learn: pip install 'cleanerclip[audit]'\n"
    assert (code, out, error) == (1, "", expected)


def test_ray_is_asked_for_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("a black dog\thttp://x/1\n")
    line = ("augment-captions", str(tmp_path / "a.tsv"), "--out", str(tmp_path / "o"), "--engine", "ray")
    code, _, error = run("pipeline", *line, absent=("ray",))
    assert code == 1
    assert error.splitlines()[-1] == "pipeline: --engine ray needs ray: pip install 'cleanerclip[ray]'"


HANDLED = {"fsspec": "remote", "transformers": "model", "tensorboard": "log_places", "wandb": "log_places"}
"""Packages whose absence a module tells in words of its own; tests beside that module hold them."""
OTHERWISE = {"SceneGraphParser": "sng_parser", "open_clip_torch": "open_clip", "scikit_learn": "sklearn"}
"""Packages that are not called as their distribution is."""
COME_ALONG = {"thinc", "numpy", "click", "timm", "huggingface_hub"}
"""Of spaCy, typer and open_clip."""


def test_every_package_that_is_imported_is_installed_or_told() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = [re.split(r"[^\w.-]", line)[0].replace("-", "_") for line in project["dependencies"]]
    core = {OTHERWISE.get(name, name) for name in names} | {"PIL", *COME_ALONG, *sys.stdlib_module_names}
    told = {"pipeline": {*pipeline_cli.EXTRAS}, "trainer": {*pipeline_cli.EXTRAS, *trainer_cli.EXTRAS}}
    found = set()
    for half, extras in told.items():
        for path in (ROOT / half).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                imported = [each.name for each in node.names] if isinstance(node, ast.Import) else []
                imported += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                packages = {name.partition(".")[0] for name in imported} - core - {"pipeline", "trainer"}
                found |= packages
                unknown = packages - extras - {*HANDLED}
                assert unknown == set(), f"{path.relative_to(ROOT)}: nobody says what installs {unknown}"
    assert {"torch", "sklearn", "nltk", "matplotlib"} <= found


def test_the_extras_that_are_named_install_what_they_are_named_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for package, extra in (pipeline_cli.EXTRAS | trainer_cli.EXTRAS).items():
        lines = project["optional-dependencies"][extra]
        names = {re.split(r"[^\w.-]", line)[0].replace("-", "_") for line in lines}
        assert package in {OTHERWISE.get(name, name) for name in names}


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
