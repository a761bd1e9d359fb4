"""The command line: quick to start, one line for a mistake, no torch."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest


def pipeline(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments], capture_output=True, text=True, check=False
    )


def test_help_within_half_a_second() -> None:
    def cpu_seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert pipeline("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    assert min(cpu_seconds() for _ in range(5)) < 0.5  # the machine may be busy with other things


def test_no_module_of_the_pipeline_imports_torch() -> None:
    code = (
        "import pkgutil, sys, importlib, pipeline\n"
        "for module in pkgutil.walk_packages(pipeline.__path__, 'pipeline.'): importlib.import_module(module.name)\n"
        "print([name for name in ('torch', 'open_clip', 'torchvision') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["augment-captions", "nowhere.tsv", "--out", "{out}"], 1, "no file at nowhere.tsv"),
        (["augment-captions", "{text}", "--out", "{out}"], 1, "--format"),
        (["augment-captions", "{tsv}", "--out", "{out}", "--format", "xml"], 1, "one of: webdataset"),
        (["augment-captions", "{tsv}", "--out", "{text}"], 1, "is a file"),
        (["augment-captions", "{tsv}", "--out", "{out}", "--negatives", "-1"], 1, "negatives"),
        (["augment-captions", "{tsv}", "--out", "{out}", "--negatives", "ten"], 2, "a valid integer"),
        (["augment-captions", "{tsv}", "--out", "{out}", "--parser", "xx_no_such"], 1, "xx_no_such"),
        (["augment-captions", "{tsv}", "--out", "{out}", "--lexicons", "nowhere"], 1, "nowhere"),
        (["augment-captions", "{tsv}", "--out", "{out}", "--hardness", "brutal"], 2, "hardness"),
        (["augment-captions", "{tsv}", "--out", "{out}", "--workers", "0"], 1, "at least 1"),
        (["augment-captions", "{tsv}"], 2, "--out"),
        (["query", "{out}", "SELECT 1"], 1, "no such folder"),
        (["no-such-command"], 2, "no-such-command"),
    ],
)
def test_a_mistake_gets_one_line(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    (tmp_path / "a.tsv").write_text("a black dog\thttp://x\n")
    (tmp_path / "a.bin").write_text("x")
    places = {"tsv": tmp_path / "a.tsv", "text": tmp_path / "a.bin", "out": tmp_path / "out"}
    done = pipeline(*(argument.format(**places) for argument in arguments))
    assert done.returncode == code
    assert said in done.stderr
    assert len([line for line in done.stderr.splitlines() if " read as " not in line]) == 1


def test_augment_then_query(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("a black dog chasing a red ball\thttp://x\n")
    done = pipeline("augment-captions", str(tmp_path / "a.tsv"), "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "1 of 1 rows ok")
    sql = "SELECT status, len(negatives) AS n FROM subcaptions"
    assert pipeline("query", str(tmp_path / "out"), sql, "--format", "csv").stdout == "status,n\nok,10\n"
    for name in pipeline("query", str(tmp_path / "out")).stdout.splitlines():
        saved = pipeline("query", str(tmp_path / "out"), name.split()[0], "--format", "json")
        assert saved.returncode == 0, saved.stderr


def test_captions_that_give_nothing_end_non_zero(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("12345\thttp://x\nсобака\thttp://y\n")
    done = pipeline(
        "augment-captions", str(tmp_path / "a.tsv"), "--out", str(tmp_path / "out"), "--no-shards"
    )
    assert done.returncode == 1
    assert "no caption can be used; looked for English sentences with a noun" in done.stderr
    assert "0 of 2 rows ok" in done.stdout


def test_captions_are_augmented_without_what_only_takes_time(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("a black dog on a mat\thttp://x/1\n")
    code = (
        "import sys; from pipeline.commands.augment import augment_captions; from pipeline.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('pandas', 'duckdb', 'PIL', 'sng_parser', 'spacy.cli') if name in sys.modules])"
    )
    words = ["augment-captions", str(tmp_path / "a.tsv"), "--out", str(tmp_path / "out"), "--workers", "1"]
    done = subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, text=True)
    assert "1 of 1 rows ok" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
