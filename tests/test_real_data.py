"""Real data of every format goes through; webdataset, open_clip, plain tar and the trainer read the shards."""

import gc
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from pipeline.captions.readers import InputOptions
from pipeline.looking.verify import verify
from pipeline.stages import PipelineOptions, run_stages
from pipeline.storage import read_table
from tests.places import REAL_DATA
from trainer.checkpoint import save_weights
from trainer.guard import MOST
from trainer.model import load_model

pytestmark = [pytest.mark.data, pytest.mark.slow]
RealData = Callable[[str], Path]


def tar_keys(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return [name.removesuffix(".json") for name in tar.getnames() if name.endswith(".json")]


@pytest.fixture(scope="module")
def flickr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = REAL_DATA / "flickr8k_wds"
    if not folder.exists():
        pytest.skip("the real data flickr8k_wds is not beside the project (../shared/data)")
    out = tmp_path_factory.mktemp("flickr")
    pattern = f"{folder}/train-{{00000..00002}}.tar"
    run_stages(PipelineOptions(source=InputOptions(input=pattern), out=out, workers=2))
    return out


@pytest.mark.xdist_group("flickr")
def test_flickr8k_keeps_every_row_and_sample(flickr: Path, real_data: RealData) -> None:
    rows = [row for n in range(3) for row in read_table(flickr / f"subcaptions/0000{n}.parquet").to_pylist()]
    given = [key for n in range(3) for key in tar_keys(real_data(f"flickr8k_wds/train-0000{n}.tar"))]
    written = [key for n in range(3) for key in tar_keys(flickr / f"shards/0000{n}.tar")]
    assert len(rows) == 6000
    assert [row["key"] for row in rows] == written == given
    assert sum(row["status"] == "ok" for row in rows) > 5900
    assert sum(len(row["negatives"]) == 10 for row in rows) > 5900
    assert verify(flickr) == []


@pytest.mark.xdist_group("flickr")
def test_plain_tar_reads_the_shards(flickr: Path, real_data: RealData) -> None:
    listed = subprocess.run(
        ["tar", "tf", flickr / "shards/00000.tar"], capture_output=True, text=True, check=True
    )
    assert len(listed.stdout.splitlines()) == 6000
    given, shard = real_data("flickr8k_wds/train-00000.tar"), flickr / "shards/00000.tar"
    with tarfile.open(given) as a, tarfile.open(shard) as b:
        name = "000000042.jpg"
        assert a.extractfile(name).read() == b.extractfile(name).read()  # type: ignore[union-attr]


def allow_local_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """webdataset as its users run it: under WDS_SECURE, which the trainer sets, it opens no local file."""
    utils = pytest.importorskip("webdataset.utils")
    monkeypatch.setattr(utils, "enforce_security", False)


@pytest.mark.xdist_group("flickr")
@pytest.mark.filterwarnings("ignore")  # the reader leaves its files to the garbage collector, which warns
def test_webdataset_reads_the_shards(flickr: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allow_local_files(monkeypatch)
    webdataset = pytest.importorskip("webdataset")
    shards = str(flickr / "shards/{00000..00002}.tar")
    dataset = webdataset.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("jpg", "txt", "json")
    read = [(image.size, caption, fields["key"]) for image, caption, fields in dataset]
    assert len(read) == len({key for _, _, key in read}) == 6000
    gc.collect()


@pytest.mark.xdist_group("flickr")
@pytest.mark.filterwarnings("ignore")  # open_clip's own reader, with its own habits
def test_open_clip_reads_the_shards(flickr: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allow_local_files(monkeypatch)
    pytest.importorskip("trainer.torchvision_shim")
    data = pytest.importorskip("open_clip_train.data")
    torch = pytest.importorskip("torch")
    options = SimpleNamespace(
        val_data=str(flickr / "shards/{00000..00002}.tar"),
        val_num_samples=None,
        batch_size=500,
        workers=0,
        world_size=1,
    )

    def size(image: Image.Image) -> Any:
        return torch.tensor(image.size)

    loader = data.get_wds_dataset(options, size, is_train=False, tokenizer=lambda text: [text]).dataloader
    texts = [text for _, batch in loader for text in batch]
    assert len(texts) == 6000
    assert all(isinstance(text, str) and text for text in texts)
    gc.collect()  # the reader leaves its files to the garbage collector, which warns


@pytest.mark.xdist_group("flickr")
def test_trainer_defends_for_an_epoch(flickr: Path, tmp_path: Path) -> None:
    name = "cleanerclip-tiny-32"
    weights = tmp_path / "start.safetensors"
    save_weights(weights, load_model(name, seed=0).model.state_dict(), metadata={"model": name})
    command = [
        sys.executable,
        "-m",
        "trainer.cli",
        "defend",
        "--shards",
        str(flickr / "shards/{00000..00002}.tar"),
    ]
    options = ["--checkpoint", str(weights), "--method", "cleanerclip", "--epochs", "1", "--lr", "1e-3"]
    run = tmp_path / "run"
    subprocess.run([*command, *options, "--out", str(run)], check=True, capture_output=True)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == (6000 - MOST) // 64  # those that the guard holds out are not trained on
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert sum(json.loads((run / "summary.json").read_text())["skipped"].values()) < 60


@pytest.mark.parametrize(
    ("name", "rows", "images"),
    [
        ("cc12m_wds/cc12m-train-0000.tar", 32, {"ok": 32}),
        ("cc3m/validation_first_8000.tsv", 8000, {"none": 8000}),
        ("coco_captions_val2017/captions_val2017.json", 25014, {"missing": 25014}),
        ("cc3m/cc3m_natural_10K_WObanana.csv", 10000, {"missing": 10000}),
    ],
)
def test_other_formats_go_through(
    real_data: RealData, tmp_path: Path, name: str, rows: int, images: dict[str, int]
) -> None:
    source = InputOptions(input=str(real_data(name)))
    manifest = run_stages(PipelineOptions(source=source, out=tmp_path, workers=2))
    assert manifest["rows"]["in"] == rows
    assert manifest["rows"]["ok"] > 0.95 * rows
    assert manifest["rows"]["image_status"] == images
    written = [key for shard in sorted((tmp_path / "shards").glob("*.tar")) for key in tar_keys(shard)]
    assert len(written) == len(set(written)) == rows
    assert sys.getsizeof(manifest["faults"]) < 10_000
