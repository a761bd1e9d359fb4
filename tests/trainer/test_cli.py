"""The command line: every command end to end on tiny shards, help, exit codes, one line for a mistake."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.storage import hold
from tests.evaluation_inputs import Trainer, run_trainer
from trainer import cli, launch

WriteShards = Callable[..., Path]
TINY = "cleanerclip-tiny-32"
DEFEND = ("defend", "--shards", "x", "--checkpoint", "x", "--out", "r")
SMALL = ("--epochs", 1, "--batch-size", 8, "--device", "cpu", "--lr", "1e-3")
GROUPS = ("data",)
COMMANDS = (
    "audit",
    "calibrate",
    "defend",
    "craft-trigger",
    "attack",
    "poison",
    "evaluate",
    "probe",
    "retrieve",
    "report",
    "inspect",
    "bench",
    "convert",
)


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Trainer:
    return run_trainer(monkeypatch, capsys)


@pytest.fixture
def manifest(write_shards: WriteShards) -> Path:
    folder = write_shards(24)
    with tarfile.open(folder / "test.tar", "w") as test, tarfile.open(folder / "00000.tar") as train:
        for member in train.getmembers():
            if member.name.endswith(".jpg"):
                test.addfile(member, train.extractfile(member))
                label = tarfile.TarInfo(member.name.replace(".jpg", ".cls"))
                label.size = 1
                test.addfile(label, io.BytesIO(str(int(member.name[:6]) % 3).encode()))
    splits = {"train": {"shards": "{00000..00001}.tar"}, "test": {"shards": "test.tar"}}
    content = {
        "name": "toy",
        "classnames": ["red", "green", "banana"],
        "templates": ["a {}", "one {}"],
        "splits": splits,
    }
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder / "manifest.json"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which the command is run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_attack_evaluate_defend_report_and_inspect(trainer: Trainer, manifest: Path, tmp_path: Path) -> None:
    victim, run, before, after = (tmp_path / name for name in ("victim", "run", "before.json", "after.json"))
    attack = (
        "--manifest",
        manifest,
        "--model",
        TINY,
        "--trigger",
        "badnet",
        "--target",
        "banana",
        "--rate",
        0.25,
    )
    code, out, _ = trainer("attack", *attack, "--out", victim, *SMALL)
    assert code == 0
    assert "1 epochs, 3 steps" in out
    poisoned = json.loads((victim / "poisoned.json").read_text())
    assert poisoned["count"] == len(poisoned["captions"]) == 6
    assert all("banana" in caption for caption in poisoned["captions"].values())

    trigger = ("--trigger", victim / "trigger.safetensors", "--target", "banana")
    evaluation = (*trigger, "--data", manifest, "--device", "cpu")
    code, out, _ = trainer("evaluate", "--checkpoint", victim, *evaluation, "--json", before)
    assert code == 0
    assert "ASR" in out
    shards = manifest.parent / "{00000..00001}.tar"
    assert trainer("defend", "--shards", shards, "--checkpoint", victim, "--out", run, *SMALL)[0] == 0
    assert trainer("evaluate", "--checkpoint", run, *evaluation, "--json", after)[0] == 0
    assert trainer("report", before, after, "--run", run, "--out", tmp_path / "result.json")[0] == 0
    result = json.loads((tmp_path / "result.json").read_text())
    names = {f"{kind}{k}" for kind in ("ba", "asr") for k in (1, 3)}
    assert names <= set(result["before"]) & set(result["after"])
    code, out, _ = trainer("inspect", run, "--json")
    assert code == 0
    assert json.loads(out)["sha256"] == json.loads((run / "summary.json").read_text())["weights_sha256"]


def test_a_refused_resume_leaves_the_run_as_it_was(trainer: Trainer, manifest: Path, tmp_path: Path) -> None:
    attack = ("--manifest", manifest, "--model", TINY, "--trigger", "badnet", "--out", tmp_path / "v", *SMALL)
    assert trainer("attack", *attack, "--target", "banana", "--rate", 0.25)[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "v").rglob("*") if path.is_file()}
    code, _, error = trainer("attack", *attack, "--target", "red", "--resume")
    assert (code, "other options (poison)" in error) == (1, True)
    assert before == {path: path.read_bytes() for path in (tmp_path / "v").rglob("*") if path.is_file()}
    free = ("--workers", 2, "--log-every", 3)
    assert trainer("attack", *attack, "--target", "banana", "--rate", 0.25, "--resume", *free)[0] == 0


@pytest.mark.parametrize("command", ["attack", "poison"])
def test_a_folder_that_another_process_writes_to_is_refused(
    trainer: Trainer, manifest: Path, tmp_path: Path, command: str
) -> None:
    given = {
        "attack": ("--model", TINY, *SMALL),
        "poison": ("--trigger", "badnet", "--target", "red", "--image-size", 32),
    }
    with hold(tmp_path / "out"):
        found = trainer(command, "--manifest", manifest, "--out", tmp_path / "out", *given[command])
    assert (found[0], found[1]) == (1, "")
    assert f"another process is writing to {tmp_path / 'out'}" in found[2]
    assert list((tmp_path / "out").iterdir()) == []


def test_weights_of_a_local_dir_need_no_checkpoint(trainer: Trainer, manifest: Path, tmp_path: Path) -> None:
    attack = ("--manifest", manifest, "--model", TINY, "--trigger", "badnet", "--target", "banana")
    trainer("attack", *attack, "--out", tmp_path / "v", *SMALL)
    model = f"local-dir:{tmp_path / 'v/model'}"
    run = ("--shards", manifest.parent / "00000.tar", "--model", model, "--out", tmp_path / "r", *SMALL)
    assert trainer("defend", *run)[0] == 0
    options, summary = (
        json.loads((tmp_path / name).read_text()) for name in ("r/options.json", "v/summary.json")
    )
    assert options["initial_weights_sha256"] == summary["weights_sha256"]
    assert options["checkpoint"] is None
    (tmp_path / "v").rename(tmp_path / "gone")
    code, out, _ = trainer("evaluate", "--checkpoint", tmp_path / "r", "--data", manifest)
    assert code == 0
    assert "BA" in out
    assert "ASR" not in out


def test_rate_zero_trains_a_clean_model(trainer: Trainer, manifest: Path, tmp_path: Path) -> None:
    arguments = (
        "--manifest",
        manifest,
        "--model",
        TINY,
        "--trigger",
        "badnet",
        "--target",
        "banana",
        "--rate",
        0,
    )
    code, _, _ = trainer("attack", *arguments, "--epochs", 1, "--batch-size", 8, "--out", tmp_path / "clean")
    assert code == 0
    assert json.loads((tmp_path / "clean/poisoned.json").read_text())["count"] == 0


def test_every_switch_is_recorded(trainer: Trainer, manifest: Path, tmp_path: Path) -> None:
    attack = (
        "--manifest",
        manifest,
        "--model",
        TINY,
        "--trigger",
        "badnet",
        "--target",
        "banana",
        "--rate",
        0,
    )
    trainer("attack", *attack, "--out", tmp_path / "v", *SMALL)
    losses = (
        "--method",
        "cleanerclip",
        "--negatives",
        "own",
        "--tau-positive",
        0.07,
        "--tau-negative",
        0.2,
        "--no-text-to-image-negatives",
    )
    others = (
        "--triples",
        "all",
        "--counterfactual-weight",
        2.5,
        "--batch-norm",
        "frozen",
        "--resize",
        "squash",
    )
    run = ("--shards", manifest.parent, "--checkpoint", tmp_path / "v", "--out", tmp_path / "r", *SMALL)
    assert trainer("defend", *run, *losses, *others)[0] == 0
    options = json.loads((tmp_path / "r/options.json").read_text())
    expected = {
        "method": "cleanerclip",
        "tau_positive": 0.07, "tau_negative": 0.2, "negatives": "own", "text_to_image_negatives": False
    }  # fmt: skip
    assert expected.items() <= options["method"].items()
    assert (options["batches"]["triples"], options["batches"]["resize"]) == (None, "squash")
    assert (options["train"]["batch_norm"], options["method"]["counterfactual_weight"]) == ("frozen", 2.5)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("defend", "--shards", "nowhere.tar", "--checkpoint", "x", "--out", "r"), 1, "there is no checkpoint at x"),
        (("defend", "--shards", "nowhere.tar", "--out", "r"), 1, "which weights? give --checkpoint"),
        (("evaluate", "--data", "x.json", "--model", "RN50"), 1, "which weights? give --checkpoint"),
        (("defend", "--out", "r"), 2, "--shards"),
        (("attack", "--trigger", "badnet", "--target", "b", "--out", "r", "--rate", "lots"), 2, "--rate"),
        (("attack", "--trigger", "badnet", "--target", "b", "--out", "r"), 1, "which shards"),
        ((*DEFEND, "--triples", "0"), 2, "triples must be a number"),
        ((*DEFEND, "--negatives", "y"), 2, "'in-batch', 'own'"),
        ((*DEFEND, "--activation", "relu"), 2, "'quickgelu', 'gelu'"),
        (("evaluate", "--checkpoint", "x", "--data", "none.json"), 1, "none.json"),
        (("inspect", "nothing.pt"), 1, "there is no checkpoint at nothing.pt"),
        (("frobnicate",), 2, "frobnicate"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(trainer: Trainer, elsewhere: Path, arguments, code, said) -> None:  # type: ignore[no-untyped-def]
    found, out, error = trainer(*arguments)
    assert (found, out) == (code, "")
    assert said in error
    assert len(error.splitlines()) == 1
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_switch_has_a_help_text(command: str) -> None:
    import typer

    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    assert sorted(commands) == sorted((*COMMANDS, *GROUPS))
    assert commands[command].help
    without = [
        parameter.name
        for parameter in commands[command].params
        if parameter.name != "help" and not parameter.help
    ]
    assert without == []


def test_help_imports_no_torch() -> None:
    code = "import sys; from trainer import cli; print({'torch', 'open_clip', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_without_torch_one_line_says_what_to_install() -> None:
    code = "import sys; sys.modules['torch'] = None; from trainer import cli; cli.main()"
    done = subprocess.run([sys.executable, "-c", code, "inspect", "x"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "trainer: torch is not installed: pip install 'cleanerclip[trainer]'\n"


def test_too_little_memory_is_one_line(
    trainer: Trainer, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhaust(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(launch, "train", exhaust)
    attack = ("--manifest", manifest, "--model", TINY, "--trigger", "badnet", "--target", "banana")
    code, _, error = trainer("attack", *attack, "--out", tmp_path / "v", *SMALL)
    assert code == 1
    assert "trainer: the device has not enough memory for a batch of 8: lower --batch-size" in error


def test_ctrl_c_ends_with_130_and_a_saved_state(manifest: Path, tmp_path: Path) -> None:
    attack = [
        "attack",
        "--manifest",
        str(manifest),
        "--model",
        TINY,
        "--trigger",
        "badnet",
        "--target",
        "banana",
    ]
    options = ["--epochs", "400", "--batch-size", "8", "--out", str(tmp_path / "run"), "--log-every", "1"]
    command = [sys.executable, "-m", "trainer.cli", *attack, *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"})
    metrics = tmp_path / "run/metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"--resume goes on" in error
    assert b"Traceback" not in error
    assert (tmp_path / "run/checkpoints/last.state.pt").is_file()
