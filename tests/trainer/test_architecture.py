"""A checkpoint's architecture is told from its tensors, with what is missing and what is too much."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.evaluation_inputs import run_trainer
from trainer.architecture import expected_shapes, find_fit
from trainer.checkpoint import save_weights
from trainer.model import load_model

# isort: split
import open_clip  # noqa: TID251

NATIVE = [
    "cleanerclip-rn-64",
    "cleanerclip-tiny-32",
    "cleanerclip-vit-64",
    "RN50",
    "RN50x4",
    "ViT-B-32",
    "ViT-L-14-336",
]


@pytest.mark.parametrize("name", NATIVE)
def test_expected_shapes_are_open_clips(name: str) -> None:
    with torch.device("meta"):
        config = open_clip.get_model_config(name)
        model = open_clip.CLIP(**{key: value for key, value in config.items() if key != "custom_text"})
    assert expected_shapes(config) == {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


def test_the_architecture_is_found() -> None:
    state = load_model("cleanerclip-vit-64").model.state_dict()
    fit = find_fit(state)
    assert fit is not None
    assert (fit.names, fit.exact) == (("cleanerclip-vit-64",), True)
    del state["visual.proj"]
    state["extra"] = state["ln_final.weight"] = torch.zeros(3)
    fit = find_fit(state)
    assert fit is not None
    assert (fit.missing, fit.unexpected) == (("visual.proj",), ("extra",))
    assert fit.other_shapes == ("ln_final.weight (3,) instead of (128,)",)
    assert find_fit({"weight": torch.zeros(2)}) is None


def test_inspect_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = load_model("cleanerclip-tiny-32")
    state = dict(clip.model.state_dict())
    trainer = run_trainer(monkeypatch, capsys)
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "a.pt")
    told = json.loads(trainer("inspect", tmp_path / "a.pt", "--json")[1])
    assert (told["architecture"], told["fits"], told["activation"]) == (
        "cleanerclip-tiny-32",
        "yes",
        "not stated",
    )
    del state["logit_scale"]
    save_weights(tmp_path / "b.safetensors", state, metadata={"model": "cleanerclip-tiny-32"})
    out = trainer("inspect", tmp_path / "b.safetensors")[1]
    assert 'missing      ["logit_scale"]' in out
    assert "cleanerclip-rn-64" in trainer("inspect", tmp_path / "a.pt", "--model", "cleanerclip-rn-64")[1]


def test_inspect_asks_open_clip_for_towers_of_timm(tmp_path: Path) -> None:
    from trainer.commands.inspect import describe

    vision = {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"}
    text = {"context_length": 16, "vocab_size": 1024, "width": 32, "heads": 2, "layers": 1}
    content = {"model_cfg": {"embed_dim": 64, "vision_cfg": vision, "text_cfg": text, "custom_text": True}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(content | {"preprocess_cfg": {}}))
    made = open_clip.create_model(f"local-dir:{tmp_path}", load_weights=False)
    state = {key: value for key, value in made.state_dict().items() if key != "visual.trunk.norm.bias"}
    save_weights(tmp_path / "open_clip_model.safetensors", state, metadata={})
    told = describe(tmp_path, model=None)
    assert (told["fits"], told["missing"]) == ("no", ["visual.trunk.norm.bias"])


def test_inspect_of_known_names_imports_no_open_clip(tmp_path: Path) -> None:
    clip = load_model("cleanerclip-tiny-32")
    save_weights(tmp_path / "a.safetensors", clip.model.state_dict(), metadata={"model": clip.name})
    program = (
        "import sys; from trainer.commands.inspect import describe; from pathlib import Path;"
        "told = describe(Path(sys.argv[1]), model=None);"
        "assert told['fits'] == 'yes', told; assert 'open_clip' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.safetensors")], check=True)
