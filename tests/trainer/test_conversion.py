"""What `trainer convert` writes gives the same embeddings in open_clip, transformers and here, and says what it is."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import UserError
from tests.evaluation_inputs import run_trainer
from trainer.checkpoint import save_weights
from trainer.conversion import Target, convert, model_card
from trainer.model import ClipModel, load_model

# isort: split
import open_clip  # noqa: TID251

CAPTIONS = ["a red ball on the grass", "zzyzx!"]
VIT = "cleanerclip-vit-64"


@pytest.fixture(scope="module")
def clip() -> ClipModel:
    made = load_model(VIT, seed=4)
    made.model.eval()
    return made


@pytest.fixture(scope="module")
def image_N3HW() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64)


def embeddings(model: Any, image_N3HW: torch.Tensor, text_NL: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return [model.encode_image(image_N3HW), model.encode_text(text_NL)]


@pytest.mark.parametrize("to", ["open_clip-pt", "safetensors", "hf"])
def test_it_comes_back_the_same(clip: ClipModel, tmp_path: Path, to: Target) -> None:
    convert(clip, to, tmp_path / "out", card="# x\n")
    again = load_model(
        checkpoint=tmp_path / "out/open_clip_model.pt" if to == "open_clip-pt" else tmp_path / "out"
    )
    assert again.sha256 == clip.sha256
    assert (again.mean, again.resize_mode, again.interpolation) == (
        clip.mean,
        clip.resize_mode,
        clip.interpolation,
    )
    assert torch.equal(again.tokenizer(CAPTIONS), clip.tokenizer(CAPTIONS))
    with pytest.raises(UserError, match="is not empty"):
        convert(clip, to, tmp_path / "out", card="")


def test_open_clip_reads_both_of_its_own(clip: ClipModel, tmp_path: Path, image_N3HW: torch.Tensor) -> None:
    text_NL = clip.tokenizer(CAPTIONS)
    expected = embeddings(clip.model, image_N3HW, text_NL)
    convert(clip, "safetensors", tmp_path / "folder", card="")
    convert(clip, "open_clip-pt", tmp_path / "pt", card="")
    for model in (
        open_clip.create_model(f"local-dir:{tmp_path / 'folder'}").eval(),
        open_clip.create_model(VIT, pretrained=str(tmp_path / "pt/open_clip_model.pt")).eval(),
    ):
        for ours, theirs in zip(expected, embeddings(model, image_N3HW, text_NL), strict=True):
            assert torch.equal(ours, theirs)


@pytest.fixture(scope="module")
def openai_like(tmp_path_factory: pytest.TempPathFactory) -> ClipModel:
    """A CLIP of OpenAI's kind, small: heads of 64, QuickGELU."""
    folder = tmp_path_factory.mktemp("openai")
    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8}
    text = {"context_length": 24, "vocab_size": 1024, "width": 64, "heads": 1, "layers": 1}
    config = {"embed_dim": 32, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(3)
    model = open_clip.CLIP(**config)
    save_weights(folder / "open_clip_model.safetensors", model.state_dict(), metadata={"format": "pt"})
    made = load_model(checkpoint=folder)
    made.model.eval()
    return made


@pytest.mark.filterwarnings("ignore")
def test_openais_loader_reads_its_form(openai_like: ClipModel, tmp_path: Path) -> None:
    from open_clip.openai import load_openai_model  # noqa: TID251

    names = convert(openai_like, "openai-pt", tmp_path / "out", card="")
    assert names == ["README.md", "open_clip_config.json", "openai_model.pt"]
    file = tmp_path / "out/openai_model.pt"
    theirs = load_openai_model(str(file), device="cpu")
    again = load_model(checkpoint=file)
    again.model.eval()
    image_N3HW, text_NL = torch.randn(2, 3, 32, 32), openai_like.tokenizer(CAPTIONS)
    found = embeddings(again.model, image_N3HW, text_NL)
    for ours, each in zip(found, embeddings(theirs, image_N3HW, text_NL), strict=True):
        assert torch.equal(ours, each)  # both have what the file rounds to
    for before, after in zip(embeddings(openai_like.model, image_N3HW, text_NL), found, strict=True):
        assert torch.nn.functional.cosine_similarity(before, after).min() > 0.9999


def test_what_openais_form_cannot_hold_is_refused(clip: ClipModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="an activation that is not QuickGELU"):
        convert(clip, "openai-pt", tmp_path / "out", card="")
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_transformers_reads_model_and_tokenizer(
    clip: ClipModel, tmp_path: Path, image_N3HW: torch.Tensor
) -> None:
    library = pytest.importorskip("transformers", reason="transformers is not installed")
    convert(clip, "hf", tmp_path / "out", card="")
    model = library.CLIPModel.from_pretrained(tmp_path / "out").eval()
    tokens = library.CLIPTokenizer.from_pretrained(tmp_path / "out")(
        CAPTIONS, padding="max_length", return_tensors="pt"
    )
    text_NL = clip.tokenizer(CAPTIONS)
    ends = text_NL.argmax(dim=1)
    for ours, theirs, end in zip(text_NL, tokens["input_ids"], ends, strict=True):
        assert ours[: end + 1].tolist() == theirs[: end + 1].tolist()
    with torch.no_grad():
        found = [
            model.get_image_features(pixel_values=image_N3HW),
            model.get_text_features(input_ids=tokens["input_ids"]),
        ]
    for ours, each in zip(embeddings(clip.model, image_N3HW, text_NL), found, strict=True):
        assert torch.allclose(ours, getattr(each, "pooler_output", each), atol=1e-5)


def test_what_transformers_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="CLIPModel cannot be a ResNet: convert it --to open_clip-pt"):
        convert(load_model("cleanerclip-tiny-32"), "hf", tmp_path / "out", card="")
    assert not (tmp_path / "out").exists()


def test_the_card_says_what_was_done_and_measured(clip: ClipModel, tmp_path: Path) -> None:
    run = {"command": "defend", "method": {"method": "cleanerclip"}, "shards_sha256": "ab" * 32, "samples": 7}
    (tmp_path / "options.json").write_text(json.dumps(run | {"checkpoint": "/home/someone/suspect.pt"}))
    measured = {
        "ba1": 61.25,
        "asr1": 0.4,
        "data": "toy",
        "how": "zero-shot",
        "trigger_kind": "badnet",
        "target": "cat",
    }
    for name, sha in (("after", clip.sha256), ("before", "0" * 64)):
        (tmp_path / f"{name}.json").write_text(json.dumps(measured | {"weights_sha256": sha}))
    card = model_card(clip, tmp_path, evaluations=[tmp_path / "after.json", tmp_path / "before.json"])
    assert f"# {VIT}, defended with cleanerclip" in card
    assert card.count("| toy | zero-shot | 61.2 % | badnet | cat | 0.4 % |") == 2
    assert ("ab" * 32 in card, "/home/someone" in card) == (True, False)
    assert card.split("---")[1].count('"accuracy"') == 1  # the other weights' figures are not this model's
    (tmp_path / "x.json").write_text("{}")
    assert "trainer audit" not in card
    told = {"verdict": "no evidence found", "score": 1.234, "threshold": 4.0, "clean_models": 4}
    told |= {"num_images": 192, "weights_sha256": clip.sha256}
    (tmp_path / "audit-after.json").write_text(json.dumps(told))
    (tmp_path / "audit.json").write_text(json.dumps(told | {"verdict": "not calibrated", "score": None}))
    card = model_card(clip, tmp_path, audits=[tmp_path / "audit.json"])
    sha = f"`{clip.sha256[:12]}`"
    lines = [line for line in card.splitlines() if sha in line]
    assert lines == [
        f"| no evidence found | 1.2 | 4.0 | 4 | 192 | {sha} |",
        f"| not calibrated |  | 4.0 | 4 | 192 | {sha} |",
    ]
    with pytest.raises(UserError, match="holds no verdict"):
        model_card(clip, tmp_path, audits=[tmp_path / "x.json"])
    with pytest.raises(UserError, match="holds no ba1"):
        model_card(clip, tmp_path, evaluations=[tmp_path / "x.json"])
    assert "is not known here" in model_card(clip, tmp_path / "elsewhere.pt")


def test_the_command(
    clip: ClipModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_weights(
        tmp_path / "a.safetensors", clip.model.state_dict(), metadata={"model": VIT, "quick_gelu": "false"}
    )
    trainer = run_trainer(monkeypatch, capsys)
    code, out, _ = trainer("convert", tmp_path / "a.safetensors", "--to", "hf", "--out", tmp_path / "out")
    assert (code, clip.sha256[:12] in out) == (0, True)
    assert {"README.md", "config.json", "model.safetensors", "vocab.json"} <= {
        f.name for f in (tmp_path / "out").iterdir()
    }
