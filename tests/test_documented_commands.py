"""Every command of the README and of the documents is run, on small files under the names that they use.

What is too large or not here (a GPU, a bucket, an LLM, a cluster) is replaced by what `SMALLER` says; what cannot be
run at all stands in `NOT_RUN` with the place of the test that runs its like, and is parsed. Commands in code blocks
and in tables count; what one makes is there for those behind it.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import fsspec  # noqa: TID251
import pytest
import torch
import typer.main

from pipeline import cli as pipeline_cli
from pipeline.storage import place, remove_folder
from tests.documented_world import make_world
from tests.places import ROOT
from tests.test_documents import code_lines
from trainer import cli as trainer_cli

CLIS = {"pipeline": pipeline_cli, "trainer": trainer_cli}
PAGES = (
    "README.md", "docs/index.md", "docs/install.md", "docs/my-captions.md", "docs/my-lexicons.md", "docs/queries.md",
    "docs/my-checkpoint.md", "docs/my-trigger.md", "docs/audit.md", "docs/training.md", "docs/reproduce.md",
    "docs/many-machines.md", "docs/findings.md", "docs/benchmarks.md", "docs/commands.md",
)  # fmt: skip
"""In this order: a later page may use what an earlier one made."""
SMALLER = (
    (r"^torchrun --nproc-per-node \d+ -m ", ""),
    (r"s3://my-bucket", "memory://my-bucket"),
    (r"\{00000\.\.\d+\}", "{00000..00001}"),
    (r"INPUT\b", "INPUT.tsv"),
    (r"write-shards cf\b", "write-shards cf-no-shards"),
    (r"--model (?:RN50-quickgelu|RN50|ViT-B-32)\b", "--model cleanerclip-tiny-32"),
    (r"--activation quickgelu", "--activation gelu"),
    (r"--model cleanerclip-rn-64", "--model cleanerclip-tiny-32"),
    (r"trainer/demo_victim/victim\.safetensors", "suspect.safetensors"),
    (r"--model hf-hub:\S+", "--model cleanerclip-tiny-32 --checkpoint openai.safetensors"),
    (r"--shards \S+ --manifest imagenet1k", "--manifest imagenet.json"),
    (r"--data (?:caltech101|cifar10|flickr8k|cifar10-full) --root (?:sets|DATA)", "--data imagenet.json"),
    (r"(?<=data check )caltech101 --root sets", "world/manifest.json --root world"),
    (r"--image-root /data/photos", "--image-root photos"),
    (r"(?<=pipeline augment-captions )(.*)--workers \d+", r"\1--workers 1"),
    (
        r"^(pipeline (?:augment-captions|parse-captions [^-]|repair|write-shards)(?!.*--workers).*)",
        r"\1 --workers 1",
    ),
    (r"(?<=trainer )(.*)--workers \d+", r"\1--workers 0"),
    (r"--device cuda", "--device cpu"),
    (r"--batch-norm sync", "--batch-norm frozen"),
    (r" --compile\b", ""),
    (r"--parser (?:en_core_web_sm|my-parser)", "--parser bundled"),
    (r"--lexicons my-lexicons", f"--lexicons {ROOT / 'lexicons'}"),
    (r"--resume", ""),
    (r"^(trainer (?:defend|attack) .*)", r"\1 --epochs 1 --batch-size 8 --warmup 0 --precision fp32"),
    (
        r"^(trainer defend (?!.*--method).*)",
        r"\1 --invent-steps 1 --invent-images 8 --craft-images 8 --pool 1",
    ),
    (r"^(trainer (?:audit|calibrate) .*)", r"\1 --steps 2 --images 12 --starts 1 --step-images 4"),
    (r"^(trainer craft-trigger (?:ssba|badclip) .*)", r"\1 --steps 2 --batch-size 8"),
    (r"^(trainer craft-trigger ssba .*)", r"\1 --num-images 10"),
    (r"^(trainer probe .*)", r"\1 --batch-size 8"),
    (r"^(pipeline demo-data .*)", r"\1 --num-train 8 --num-test-per-class 1"),
    (r"^(pipeline audit-negatives .*)", r"\1 --captions 8"),
)
NOT_RUN = {
    r"^make |^\.venv/bin/python -m pytest|^python -m benchmarks": "targets and modules are looked up below",
    r"^pip ": "extras are looked up below",
    r"^export |^ray |^docker |^img2dataset |^python -c \"import torchvision": "not this project's program",
    r"pipeline build-lexicons": "WordNet is not part of the package: tests/pipeline/lexicons/test_building.py",
    r"--engine ray": "tests/pipeline/test_ray_engine.py",
    r"^trainer bench|^trainer report narrow": "victims take hours: tests/trainer/bench/test_bench.py",
    r"pipeline audit-negatives": "needs captions by the hundred: tests/pipeline/looking/test_audit.py",
}
"""By a pattern of the line: why, and which test runs it."""
COMMAND = re.compile(
    r"^(?:pipeline|trainer|make|pip|python|torchrun|ray|export|docker|img2dataset|\.venv/bin/\S+) \S"
)
WALKS = "docs/walks.md"
"""It has a test of its own: tests/test_walks.py."""
ALL_PAGES = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))


def commands(page: str) -> list[str]:
    """The commands of a page's code blocks and tables, in their order, without the remarks behind them."""
    text = (ROOT / page).read_text("utf-8")
    in_tables = re.findall(r"^\| [^|]* \| `((?:pipeline|trainer) [^`]+)` \|", text, re.MULTILINE)
    lines = [re.split(r"\s#\s", line)[0].strip() for line in [*code_lines(text), *in_tables]]
    return [" ".join(line.split()) for line in lines if COMMAND.match(line)]


def reason(line: str) -> str | None:
    return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, line)), None)


def smaller(line: str) -> list[str]:
    for pattern, instead in SMALLER:
        line = re.sub(pattern, instead, line)
    return shlex.split(line)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("documented") / "world"
    folder.mkdir()
    make_world(folder)
    for number in range(2):
        data = (folder / f"cc3m/{number:05d}.tar").read_bytes()
        fsspec.filesystem("memory").pipe(f"/my-bucket/cc12m/{number:05d}.tar", data)
    yield folder
    remove_folder(place("memory://my-bucket"))


def call(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as exited:
        CLIS[words[0]].main()
    assert isinstance(exited.value.code, int)
    return exited.value.code


def clear(words: list[str]) -> None:
    """Takes away what the command would write: another of the documents has written it before."""
    for option, value in pairwise(words):
        if option in ("--out", "--json", "--found", "--preview") and not value.startswith("memory:"):
            target = Path(value)
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)


def keep(made: Path, base: Path) -> None:
    """What a command made and nobody had stays for those behind it."""
    for path in made.iterdir():
        if not (base / path.name).exists():
            path.rename(base / path.name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_command_runs(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    failed, done = [], set[str]()
    walked = {*commands(WALKS)}
    for line in [line for page in PAGES for line in commands(page)]:
        if reason(line) is not None or line in done | walked:
            continue
        done.add(line)
        at = world.with_name(f"at-{len(done)}")
        shutil.copytree(world, at, copy_function=os.link)
        monkeypatch.chdir(at)
        words = smaller(line)
        clear(words)
        code = call(words, monkeypatch)
        said = capsys.readouterr()
        if code != 0:
            failed.append(f"{line}\n  as {shlex.join(words)}\n  {code}: {said.err.strip()[-300:]}")
        keep(at, world)
        monkeypatch.chdir(ROOT)
        shutil.rmtree(at)
    assert failed == [], "\n".join(failed)
    assert len(done) > 90


def test_what_is_not_run_is_understood() -> None:
    programs = {name: typer.main.get_command(cli.app) for name, cli in CLIS.items()}
    for line in (line for page in PAGES for line in commands(page)):
        words = shlex.split(line)
        if reason(line) is None or words[0] not in programs:
            continue
        command = programs[words[0]].commands[words[1]]  # type: ignore[attr-defined]
        command.make_context(words[1], words[2:])  # parses, and runs nothing


def test_every_reason_is_needed_and_names_a_test_that_is_there() -> None:
    lines = [line for page in PAGES for line in commands(page)]
    for pattern, why in NOT_RUN.items():
        assert any(re.search(pattern, line) for line in lines) or "docker" in pattern, pattern
        assert all((ROOT / path).is_file() for path in re.findall(r"tests/\S+\.py", why))


def test_every_page_with_commands_is_among_them() -> None:
    assert {page for page in ALL_PAGES if any(map(ours, commands(page)))} == {*PAGES, WALKS}


@pytest.mark.parametrize("page", ALL_PAGES)
def test_a_block_without_a_language_holds_commands_alone(page: str) -> None:
    """So no command is overlooked: what is shown beside them is marked as text, Python or JSON."""
    text = (ROOT / page).read_text("utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    plain = "".join(f"```\n{block}```\n" for language, block in blocks if not language)
    assert [line for line in code_lines(plain) if line.strip() and not COMMAND.match(line)] == []
    assert {language for language, _ in blocks} <= {"", "text", "python", "json"}


def counts() -> dict[str, int]:
    """What docs/benchmarks.md tells of the documents' commands, each line counted once."""
    walked = {line for line in commands(WALKS) if reason(line) is None}
    lines = {line for page in (*PAGES, *ALL_PAGES) for line in commands(page)} - walked
    left = [line for line in lines if reason(line) is not None]
    ran = [line for line in lines if reason(line) is None]
    assert all(map(ours, ran)), [line for line in ran if not ours(line)]
    texts = [(ROOT / page).read_text("utf-8") for page in ALL_PAGES]
    found = {"run": len(ran), "walked": len(walked), "not run": len(left)}
    found["Python"] = sum(len(re.findall(r"^```python\n", text, re.MULTILINE)) for text in texts)
    return found | {"all": len(lines) + len(walked)}


def test_each_command_is_run_or_has_a_reason() -> None:
    found = counts()
    assert found["run"] + found["walked"] + found["not run"] == found["all"]
    assert found["not run"] < found["all"] / 4


def ours(line: str) -> bool:
    return line.split(maxsplit=1)[0] in (*CLIS, "torchrun")


def test_targets_and_extras_are_there() -> None:
    text = "\n".join(path.read_text("utf-8") for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
    targets = set(re.findall(r"^([a-z]+(?: [a-z]+)*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    there = {name for names in targets for name in names.split()}
    assert set(re.findall(r"`make (\w+)|^make (\w+)", text)) <= {
        pair for name in there for pair in ((name, ""), ("", name))
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {
        name for names in re.findall(r"(?:'\.|cleanerclip)\[([\w,]+)\]", text) for name in names.split(",")
    }
    assert extras
    assert extras <= set(project["optional-dependencies"])


@pytest.mark.slow
def test_the_python_of_the_pages_runs(world: Path) -> None:
    texts = [(ROOT / page).read_text("utf-8") for page in ALL_PAGES]
    blocks = [block for text in texts for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)]
    assert len(blocks) > 2
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-c", block],
            cwd=world,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
