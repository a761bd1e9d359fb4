"""Models that are not OpenAI's CLIP: SigLIP, EVA-CLIP, CoCa, custom text towers; they train, by their own loss."""

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import UserError
from trainer.batches import BatchOptions, BatchStream
from trainer.data import find_shards, index_shards
from trainer.defences import DEFENCES, build_defence
from trainer.defences.defence import Setting
from trainer.embedding import encode
from trainer.learner import build_learner, update
from trainer.losses import total_loss
from trainer.model import ClipModel, load_model
from trainer.optim import MAX_LOGIT_SCALE, OptimOptions

TEXT: dict[str, Any] = {"context_length": 16, "vocab_size": 1024, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16}
CONFIGS: dict[str, dict[str, Any]] = {
    "SigLIP": {
        "embed_dim": 64, "init_logit_bias": -16.5, "init_logit_scale": 4.77, "custom_text": True,
        "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": TEXT | {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
    },
    "EVA-CLIP": {
        "embed_dim": 32, "custom_text": True, "text_cfg": TEXT,
        "vision_cfg": {
            "image_size": 224, "timm_model_name": "eva02_tiny_patch14_224", "timm_pool": "token", "timm_proj": None,
        },
    },
    "CoCa": {
        "embed_dim": 32, "custom_text": True,
        "vision_cfg": VIT | {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": TEXT | {"embed_cls": True, "output_tokens": True},
        "multimodal_cfg": TEXT | {"attn_pooler_heads": 2},
    },
    "a text tower of its own": {"embed_dim": 32, "custom_text": True, "vision_cfg": VIT, "text_cfg": TEXT},
}  # fmt: skip


@pytest.fixture
def build(tmp_path: Path) -> Callable[[str], ClipModel]:
    """The tiny model of that sort, with random weights."""

    def build(name: str) -> ClipModel:
        content = {"model_cfg": CONFIGS[name], "preprocess_cfg": {}}
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        (folder / "open_clip_config.json").write_text(json.dumps(content))
        import open_clip  # noqa: TID251

        torch.manual_seed(0)
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
        for key, parameter in model.named_parameters():
            if key == "text_decoder.text_projection":  # open_clip leaves it as the memory happened to be
                torch.nn.init.normal_(parameter, std=0.02)
        torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
        return load_model(checkpoint=folder)

    return build


@pytest.mark.parametrize(
    ("name", "method"),
    [*((name, "cleanerclip") for name in CONFIGS), ("SigLIP", "anchored"), ("CoCa", "anchored")],
)
def test_other_models_train(
    build: Callable[[str], ClipModel], write_shards: Callable[..., Path], name: str, method: str
) -> None:
    clip = build(name)
    before = {key: value.clone() for key, value in clip.model.state_dict().items()}
    options = DEFENCES[method].options
    made = (
        options()
        if method == "cleanerclip"
        else options(bank="patch", pool=1, invent_steps=1, craft_images=2)
    )
    defence = build_defence(made, Setting(clip=clip, seed=0))
    index = index_shards(find_shards(str(write_shards(4))))
    stream = BatchStream(index, clip, needs=defence.needs, options=BatchOptions(batch_size=4))
    learner = build_learner(clip, optim=OptimOptions(lr=1e-3), device="cpu", precision="fp32")
    clip.model.train()
    losses = []
    defence.prepare(stream.again().epoch(0))
    for step in range(2):
        batch = next(stream.epoch(0))
        pixels = defence.pixels(batch, step=step)
        found = encode(
            clip.model, batch, normalise=clip.normalise, pixels_N3HW=pixels, texts=defence.needs.texts
        )
        loss = total_loss(defence.terms(found), defence.weights)
        losses.append(float(loss.detach()))
        update(learner, loss, lr=1e-4, max_gradient_norm=None)
    assert losses[-1] < losses[0] or method == "anchored"
    moved = {
        key.split(".")[0] for key, value in clip.model.state_dict().items() if not value.equal(before[key])
    }
    towers = {"visual"} if method == "anchored" else {"visual", "text", "logit_scale"}
    assert moved == towers | ({"logit_bias"} if name == "SigLIP" and method != "anchored" else set())


def test_siglip_keeps_its_scale_and_takes_no_temperatures(build: Callable[[str], ClipModel]) -> None:
    clip = build("SigLIP")
    assert clip.sigmoid
    learner = build_learner(clip, optim=OptimOptions(lr=1e-9), device="cpu", precision="fp32")
    update(learner, clip.model.logit_scale.exp(), lr=1e-9, max_gradient_norm=None)
    assert float(clip.model.logit_scale.detach()) == pytest.approx(4.77)
    assert MAX_LOGIT_SCALE < 4.77
    options = DEFENCES["cleanerclip"].options
    with pytest.raises(UserError, match=r"tau_negative means nothing to .*logit_bias"):
        build_defence(options(tau_negative=0.1), Setting(clip=clip, seed=0))
    build_defence(options(tau_negative=0.1, counterfactual_weight=0), Setting(clip=clip, seed=0))
    assert not load_model("cleanerclip-tiny-32").sigmoid


@pytest.mark.slow
def test_a_compiled_tower_learns_what_a_plain_one_does(
    build: Callable[[str], ClipModel], write_shards: Callable[..., Path]
) -> None:
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("torch compiles with a C++ compiler, and there is none")
    index = index_shards(find_shards(str(write_shards(8))))
    found = []
    for compiled in (False, True):
        clip = build("a text tower of its own")
        defence = build_defence(DEFENCES["ft"].options(), Setting(clip=clip, seed=0))
        stream = BatchStream(index, clip, needs=defence.needs, options=BatchOptions(batch_size=4))
        clip.model.train()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own, while it compiles
            learner = build_learner(
                clip, optim=OptimOptions(eps=1e-3), device="cpu", precision="fp32", compiled=compiled
            )
            for batch in stream.epoch(0):
                loss = total_loss(defence.terms(learner.embed(batch)), defence.weights)
                update(learner, loss, lr=1e-3, max_gradient_norm=None)
        found.append({name: tensor.clone() for name, tensor in clip.model.state_dict().items()})
    plain, compiled_ = found
    for name, tensor in plain.items():
        torch.testing.assert_close(compiled_[name], tensor, rtol=1e-5, atol=1e-6)
