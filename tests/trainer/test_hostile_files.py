"""Checkpoints, triggers and manifests that mean ill: a line each, and nothing fetched, filled or followed."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import UserError
from pipeline.storage import expand_braces
from trainer.attacks import load_trigger
from trainer.checkpoint import read_weights
from trainer.manifests import problems_of
from trainer.model import load_model


@pytest.mark.parametrize("model", ["hf-hub:someone/evil", "local-dir:/etc", "local-dir:.", "hf-hub:a:b"])
def test_a_checkpoint_names_no_place(tmp_path: Path, model: str) -> None:
    save_file({"logit_scale": torch.tensor(1.0)}, tmp_path / "x.safetensors", metadata={"model": model})
    with pytest.raises(UserError, match=r"a file may name an architecture.*--model"):
        load_model(checkpoint=tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "towers",
    [
        {"text_cfg": {"hf_model_name": "someone/evil"}},
        {"text_cfg": {"hf_tokenizer_name": "someone/evil"}},
        {"vision_cfg": {"timm_model_name": "hf-hub:someone/evil"}},
    ],
)
def test_nor_does_the_configuration_beside_it(tmp_path: Path, towers: dict[str, Any]) -> None:
    save_file({"logit_scale": torch.tensor(1.0)}, tmp_path / "x.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": towers, "preprocess_cfg": {}}))
    with pytest.raises(UserError, match="someone/evil"):
        load_model(checkpoint=tmp_path / "x.safetensors")


def test_a_packed_checkpoint_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.checkpoint.MAX_UNPACKED_BYTES", 2**20)
    torch.save({"state_dict": {"w": torch.zeros(2_000_000)}}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in plain.infolist():
            bomb.writestr(entry.filename, plain.read(entry))
    with pytest.raises(UserError, match=r"is a packed archive of 8,.* bytes"):
        read_weights(tmp_path / "bomb.pt")
    assert read_weights(tmp_path / "plain.pt").state_dict["w"].numel() == 2_000_000


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.zeros(4).to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (torch.zeros(1).expand(10**12), "an expanded tensor"),
        (torch.eye(3).to_sparse(), "a sparse tensor"),
        (torch.zeros(3, device="meta"), "without content"),
        (torch.zeros(3, dtype=torch.complex64), "complex64"),
    ],
)
def test_weights_are_plain_tensors(tmp_path: Path, tensor: torch.Tensor, said: str) -> None:
    torch.save({"state_dict": {"w": tensor}}, tmp_path / "x.pt")
    with pytest.raises(UserError, match=said):
        read_weights(tmp_path / "x.pt")


@pytest.mark.parametrize(
    "metadata",
    [
        "[" * 100_000,
        '{"kind": "badnet", "preset": "", "image_size": 1e999, "seed": 0, "settings": {}}',
        '{"kind": "badnet", "preset": "", "image_size": 1000000, "seed": 0, "settings": {}, "sha256": ""}',
        '{"kind": ["badnet"], "preset": "", "image_size": 3, "seed": 0, "settings": {}, "sha256": ""}',
        "null",
    ],
)
def test_a_hostile_trigger_is_one_line(tmp_path: Path, metadata: str) -> None:
    save_file({"patch": torch.zeros(1)}, tmp_path / "x.safetensors", metadata={"trigger": metadata})
    with pytest.raises(UserError, match="trigger"):
        load_trigger(str(tmp_path / "x.safetensors"))


@pytest.mark.parametrize(
    "shards", ["{..,good}/x.tar", "{.,x}{.,y}/x.tar", "{0..999999999}.tar", "{0..9}" * 9, "{/etc,a}/x.tar"]
)
def test_a_manifest_stays_below_its_root_and_small(shards: str) -> None:
    (problem,) = problems_of({"name": "x", "splits": {"train": {"shards": shards}}})
    assert "below the root" in problem or "more than 1,000,000 files" in problem


def test_braces_are_bounded_everywhere() -> None:
    assert expand_braces("{00..02}.tar") == ["00.tar", "01.tar", "02.tar"]
    for pattern in ("{0..99999999999999999999}", "{0..5000000}", "{a..z}" * 6):
        with pytest.raises(UserError, match="more than 1,000,000 files"):
            expand_braces(pattern)


def test_a_timm_tower_of_another_size_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    config = {
        "model_cfg": {
            "embed_dim": 16,
            "vision_cfg": {
                "timm_model_name": "vit_tiny_patch16_224",
                "timm_pool": "",
                "timm_proj": "linear",
                "image_size": 200,
            },
            "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
        },
        "preprocess_cfg": {},
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"200|224"):
        load_model(f"local-dir:{tmp_path}")
