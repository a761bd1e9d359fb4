"""Hugging Face's CLIPModel and SiglipModel embed as transformers has them; open_clip's EVA-CLIP and SigLIP load."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.errors import UserError
from trainer import torchvision_shim  # noqa: F401
from trainer.checkpoint import read_weights, save_weights
from trainer.model import ClipModel, _create, encode_text, load_model, open_clip_config

# isort: split
import open_clip  # noqa: TID251

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 600,
}
VISION = {
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "patch_size": 8,
}


def transformers() -> Any:
    return pytest.importorskip(
        "transformers", reason="transformers, which these are compared with, is not installed"
    )


def write_clip(folder: Path, act: str = "quick_gelu") -> Any:
    """A random CLIPModel, saved by transformers."""
    library = transformers()
    text = TEXT | {"max_position_embeddings": 12, "bos_token_id": 598, "eos_token_id": 599, "hidden_act": act}
    config = library.CLIPConfig(
        text_config=text, vision_config=VISION | {"image_size": 32, "hidden_act": act}, projection_dim=20
    )
    return _saved(library.CLIPModel, config, folder)


def write_siglip(folder: Path) -> Any:
    library = transformers()
    text = TEXT | {"hidden_size": 24, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1}
    config = library.SiglipConfig(text_config=text, vision_config=VISION | {"image_size": 32})
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {"a": 5, "dog": 6, "<unk>": 7, "</s>": 1}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = {"unk_token": "<unk>", "pad_token": "</s>", "eos_token": "</s>"}
    fast = library.PreTrainedTokenizerFast(tokenizer_object=words, **special)
    fast.save_pretrained(folder)
    return _saved(library.SiglipModel, config, folder)


def _saved(kind: Any, config: Any, folder: Path) -> Any:
    torch.manual_seed(3)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1)
    model.save_pretrained(folder)
    return model


def embeddings(clip: ClipModel, image_N3HW: Tensor, text_NL: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        clip.model.eval()
        return clip.model.encode_image(image_N3HW), encode_text(clip.model, text_NL)


def theirs(model: Any, image_N3HW: Tensor, text_NL: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        found = (
            model.get_image_features(pixel_values=image_N3HW),
            model.get_text_features(input_ids=text_NL),
        )
    image_ND, text_ND = (getattr(each, "pooler_output", each) for each in found)
    return image_ND, text_ND


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_a_clip_model_gives_transformers_embeddings(tmp_path: Path, act: str) -> None:
    model = write_clip(tmp_path, act)
    clip = load_model(checkpoint=tmp_path)
    image_N3HW = torch.randn(3, 3, 32, 32)
    text_NL = torch.tensor([[598, 5, 6, 7, 599] + [0] * 7, [598, 9, 599] + [0] * 9, [598] + [3] * 10 + [599]])
    for ours, other in zip(
        embeddings(clip, image_N3HW, text_NL), theirs(model, image_N3HW, text_NL), strict=True
    ):
        assert torch.allclose(ours, other, atol=1e-5)
    assert clip.config["quick_gelu"] == (act == "quick_gelu")
    assert load_model(f"local-dir:{tmp_path}").sha256 == clip.sha256
    assert read_weights(tmp_path).style == "CLIPModel"


def test_a_siglip_model_gives_transformers_embeddings(tmp_path: Path) -> None:
    model = write_siglip(tmp_path / "theirs")
    clip = load_model(checkpoint=tmp_path / "theirs/model.safetensors")
    image_N3HW, text_NL = torch.randn(3, 3, 32, 32), torch.randint(0, 600, (3, 8))
    for ours, other in zip(
        embeddings(clip, image_N3HW, text_NL), theirs(model, image_N3HW, text_NL), strict=True
    ):
        assert torch.allclose(ours, other, atol=1e-5)
    assert (clip.mean, clip.resize_mode) == ((0.5, 0.5, 0.5), "squash")
    assert clip.tokenizer(["a dog"])[0, :2].tolist() == [5, 6]
    again = tmp_path / "ours"
    save_weights(
        again / "open_clip_model.safetensors", clip.model.state_dict(), metadata={"model": clip.name}
    )
    (again / "open_clip_config.json").write_text(json.dumps(open_clip_config(clip)))
    assert load_model(checkpoint=again).sha256 == clip.sha256


def test_what_reads_a_siglips_tokens_is_asked_for_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_siglip(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"needs transformers: pip install transformers$"):
        load_model(checkpoint=tmp_path)


def test_the_preprocessing_is_the_folders(tmp_path: Path) -> None:
    write_clip(tmp_path)
    told = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1], "resample": 2, "do_center_crop": False}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    clip = load_model(checkpoint=tmp_path)
    assert (clip.mean, clip.interpolation, clip.resize_mode) == ((0.1, 0.2, 0.3), "bilinear", "squash")


def test_what_cannot_be_translated_is_refused(tmp_path: Path) -> None:
    write_clip(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, said in (
        ({"text_config": config["text_config"] | {"hidden_act": "relu"}}, "activations relu and quick_gelu"),
        ({"text_config": config["text_config"] | {"eos_token_id": 7}}, "end token 7"),
        ({"vision_config": config["vision_config"] | {"layer_norm_eps": 0.1}}, "layer_norm_eps 0.1"),
        ({"text_config": config["text_config"] | {"num_hidden_layers": 3}}, "missing"),
        ({"model_type": "bert"}, r"no config\.json of a CLIPModel or SiglipModel lies beside"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(UserError, match=said):
            load_model(checkpoint=tmp_path)


OPEN_CLIPS = {
    "EVA-CLIP": {
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": 224, "timm_model_name": "eva02_tiny_patch14_224", "timm_pool": "token", "timm_proj": None,
        },
        "text_cfg": {"context_length": 16, "vocab_size": 1024, "width": 32, "heads": 2, "layers": 2},
        "custom_text": True,
    },
    "SigLIP": {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": {
            "context_length": 16, "vocab_size": 1024, "width": 32, "heads": 2, "layers": 2, "no_causal_mask": True,
            "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
        },
    },
}  # fmt: skip


@pytest.mark.parametrize("name", OPEN_CLIPS)
@pytest.mark.parametrize("file", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_models_of_open_clip_with_towers_of_timm(tmp_path: Path, name: str, file: str) -> None:
    content: dict[str, Any] = {"model_cfg": OPEN_CLIPS[name], "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
    made = open_clip.create_model(f"local-dir:{tmp_path}", load_weights=False).eval()
    if file.endswith("bin"):
        torch.save(made.state_dict(), tmp_path / file)
    else:
        save_weights(tmp_path / file, made.state_dict(), metadata={})
    clip = load_model(checkpoint=tmp_path)
    image_N3HW = torch.randn(1, 3, clip.image_size, clip.image_size)
    text_NL = clip.tokenizer(["a red ball"])
    with torch.no_grad():
        expected = made.encode_image(image_N3HW), made.encode_text(text_NL)
    for ours, other in zip(embeddings(clip, image_N3HW, text_NL), expected, strict=True):
        assert torch.allclose(ours, other, rtol=1e-4, atol=1e-6)  # channels last round otherwise


def test_text_towers_of_transformers_are_built(tmp_path: Path) -> None:
    library = transformers()
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    library.RobertaConfig(**sizes, vocab_size=99).save_pretrained(tmp_path / "roberta")
    text = {"hf_model_name": str(tmp_path / "roberta"), "hf_model_pretrained": False, "context_length": 8}
    vision = {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16}
    config = {"embed_dim": 12, "vision_cfg": vision, "text_cfg": text, "custom_text": True}
    model = _create("roberta", config, {}, seed=0, hub_weights=False)
    assert model.text.transformer.config.hidden_size == 16


def test_transformers_is_not_imported_to_start() -> None:
    program = "import sys, trainer.model; assert not any(m.startswith('transformers.') for m in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
