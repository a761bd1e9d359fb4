"""Models: names, exact loading, the activation, the reduced vocabulary, what open_clip reads back."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from pipeline.errors import UserError
from pipeline.storage import write_json
from trainer.checkpoint import hash_weights, save_weights
from trainer.model import CONFIG_FOLDER, ClipModel, encode_text, load_model, open_clip_config

# isort: split
import open_clip  # noqa: TID251

TINY = "cleanerclip-tiny-32"
OURS = sorted(path.stem for path in CONFIG_FOLDER.glob("*.json"))


@pytest.fixture(scope="module")
def tiny() -> ClipModel:
    return load_model(TINY, seed=5)


def weights_of(clip: ClipModel) -> dict[str, Tensor]:
    return dict(clip.model.state_dict())


@pytest.mark.parametrize("name", OURS)
def test_our_models_embed_images_and_captions(name: str) -> None:
    clip = load_model(name)
    images = torch.zeros(2, 3, clip.image_size, clip.image_size, dtype=torch.uint8)
    with torch.no_grad():
        image_BD = clip.model.eval().encode_image(clip.normalise(images))
        text_BD = clip.model.encode_text(clip.tokenizer(["a red ball", "zzyzx \N{BANANA}"]))
    assert image_BD.shape == text_BD.shape == (2, clip.config["embed_dim"])
    assert sum(parameter.numel() for parameter in clip.model.parameters()) < 4.9e6


def test_random_weights_come_from_the_seed_alone() -> None:
    state = torch.get_rng_state()
    one, same, other = load_model(TINY, seed=1), load_model(TINY, seed=1), load_model(TINY, seed=2)
    assert one.sha256 == same.sha256 != other.sha256
    assert torch.equal(state, torch.get_rng_state())


def test_weights_come_back_from_both_formats_with_the_same_hash(tiny: ClipModel, tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", weights_of(tiny), metadata={"model": TINY})
    torch.save({"state_dict": {f"module.{k}": v for k, v in weights_of(tiny).items()}}, tmp_path / "a.pt")
    assert load_model(checkpoint=tmp_path / "a.safetensors").sha256 == tiny.sha256
    assert load_model(TINY, checkpoint=tmp_path / "a.pt").sha256 == tiny.sha256


def test_the_hash_is_of_values_not_of_how_they_are_stored(tiny: ClipModel, tmp_path: Path) -> None:
    rounded = {k: v.half().float() if v.is_floating_point() else v for k, v in weights_of(tiny).items()}
    save_weights(tmp_path / "a.safetensors", weights_of(tiny), metadata={"model": TINY}, storage="fp16")
    loaded = load_model(checkpoint=tmp_path / "a.safetensors")
    assert loaded.sha256 == hash_weights(rounded) != tiny.sha256
    assert all(parameter.dtype == torch.float32 for parameter in loaded.model.parameters())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.pop("visual.conv1.weight"), r"1 missing \(visual.conv1.weight\)"),
        (lambda w: w.update(extra=torch.zeros(1)), r"1 unexpected \(extra\)"),
        (lambda w: w.update(ln_final=torch.zeros(1)), "unexpected"),
        (lambda w: w.update({"ln_final.bias": torch.zeros(3)}), r"of another shape \(ln_final.bias \(3,\) instead"),
        (lambda w: w.update({"ln_final.bias": torch.full((32,), float("nan"))}), "NaN or infinity in ln_final.bias"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_exactly_are_refused(tiny: ClipModel, tmp_path: Path, change, said) -> None:  # type: ignore[no-untyped-def]
    weights = weights_of(tiny)
    change(weights)
    save_weights(tmp_path / "a.safetensors", weights, metadata={"model": TINY})
    with pytest.raises(UserError, match=said):
        load_model(checkpoint=tmp_path / "a.safetensors")


def test_keys_of_openais_archives_are_no_weights(tiny: ClipModel, tmp_path: Path) -> None:
    extra = {
        "input_resolution": torch.tensor(32),
        "context_length": torch.tensor(24),
        "vocab_size": torch.tensor(1024),
    }
    torch.save(weights_of(tiny) | extra, tmp_path / "a.pt")
    assert load_model(TINY, checkpoint=tmp_path / "a.pt").sha256 == tiny.sha256


def test_weights_of_another_model_are_refused(tiny: ClipModel, tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", weights_of(tiny), metadata={})
    with pytest.raises(UserError, match="does not fit cleanerclip-rn-64"):
        load_model("cleanerclip-rn-64", checkpoint=tmp_path / "a.safetensors")


def test_a_file_that_does_not_say_its_activation_must_be_told(tmp_path: Path) -> None:
    content = {"epoch": 1, "name": "x", "state_dict": {"logit_scale": torch.ones(())}, "optimizer": {}}
    torch.save(content, tmp_path / "a.pt")
    for name in ("RN50", "ViT-B/32", "ViT-L/14@336px"):
        with pytest.raises(UserError, match="--activation quickgelu or --activation gelu"):
            load_model(name, checkpoint=tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("stated", "name", "asked", "said"),
    [
        ("true", "RN50", None, "was trained with quickgelu, but RN50 means gelu"),
        ("false", "RN50-quickgelu", None, "was trained with gelu, but RN50-quickgelu means quickgelu"),
        ("true", "RN50-quickgelu", "gelu", "--activation gelu contradicts it"),
    ],
)
def test_a_contradicted_activation_is_refused(tmp_path: Path, stated, name, asked, said) -> None:  # type: ignore[no-untyped-def]
    save_weights(tmp_path / "a.safetensors", {"a": torch.ones(1)}, metadata={"quick_gelu": stated})
    with pytest.raises(UserError, match=said):
        load_model(name, checkpoint=tmp_path / "a.safetensors", activation=asked)


def test_the_activation_changes_what_the_same_weights_compute(tiny: ClipModel, tmp_path: Path) -> None:
    torch.save(weights_of(tiny), tmp_path / "a.pt")
    outputs = []
    for activation in (None, "gelu", "quickgelu"):
        clip = load_model(TINY, checkpoint=tmp_path / "a.pt", activation=activation)
        assert bool(clip.config.get("quick_gelu")) == (activation == "quickgelu")
        with torch.no_grad():
            outputs.append(clip.model.eval().encode_text(clip.tokenizer(["a ball"])))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])


def test_the_reduced_vocabulary_keeps_clips_ids() -> None:
    ours, full = load_model("cleanerclip-rn-64").tokenizer, open_clip.get_tokenizer("RN50")
    captions = ["a photo of a banana.", "two dogs playing in the snow", "Überraschung \N{BANANA} 12"]
    for row, whole in zip(ours(captions), full(captions, context_length=32), strict=True):
        assert row[0] == 8190
        assert row.max() == 8191
        assert all(token < 8190 for token in row[1 : int(row.argmax())])
        if whole.sort().values[-3] < 512 + 8192 - 514:
            assert torch.equal(row[1 : int(row.argmax())], whole[1 : int(whole.argmax())])
    assert ours.decode(ours.encode(captions[2])) == "überraschung \N{BANANA} 1 2 "  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [*OURS, "ViT-S-32-alt"])
def test_captions_without_their_padding_embed_as_with_it(name: str) -> None:
    clip = load_model(name)
    for captions in (
        ["a", "two dogs run"],
        ["banana " * 500, ""],
        ["a red ball on a table beside a dog"] * 3,
    ):
        tokens = clip.tokenizer(captions)
        whole, cut = clip.model.encode_text(tokens), encode_text(clip.model, tokens)
        torch.testing.assert_close(cut, whole, rtol=1e-4, atol=1e-5)


def test_padding_is_kept_for_text_towers_that_see_it() -> None:
    class Tower(torch.nn.Module):
        def encode_text(self, tokens: Tensor) -> Tensor:
            return tokens.float().sum(dim=1)

    assert encode_text(Tower(), torch.tensor([[5, 7, 1, 1, 1, 1, 1, 1, 1]])).item() == 19


def test_a_long_caption_is_cut_and_still_ends(tiny: ClipModel) -> None:
    (row,) = tiny.tokenizer(["banana " * 500])
    assert (row.shape, row[-1].item()) == ((24,), 1023)


def test_open_clip_reads_what_we_save(tiny: ClipModel, tmp_path: Path) -> None:
    save_weights(tmp_path / "open_clip_model.safetensors", weights_of(tiny), metadata={"model": TINY})
    write_json(tmp_path / "open_clip_config.json", open_clip_config(tiny))
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    image = Image.effect_noise((50, 40), 80).convert("RGB")
    with torch.no_grad():
        theirs = model.eval().encode_image(preprocess(image).unsqueeze(0))
        ours = tiny.model.eval().encode_image(tiny.normalise(tiny.resize(image).unsqueeze(0)))
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)
    again = load_model(f"local-dir:{tmp_path}")
    assert again.sha256 == tiny.sha256
    assert torch.equal(again.tokenizer(["a zebra"]), tiny.tokenizer(["a zebra"]))


def test_normalise_takes_bytes_and_floats(tiny: ClipModel) -> None:
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    kept = images.clone()
    assert torch.equal(tiny.normalise(images), tiny.normalise(images.float() / 255))
    assert torch.equal(images, kept)
    grey = replace(tiny, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)).normalise(
        torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    )
    assert grey.flatten().tolist() == [1.0, 1.0, 1.0]


def test_preprocessing_beside_the_weights_counts(tiny: ClipModel, tmp_path: Path) -> None:
    save_weights(tmp_path / "open_clip_model.safetensors", weights_of(tiny), metadata={"model": TINY})
    config = open_clip_config(tiny)
    config["preprocess_cfg"] |= {
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "resize_mode": "squash",
        "interpolation": "bilinear",
    }
    write_json(tmp_path / "open_clip_config.json", config)
    for name in (None, TINY, f"local-dir:{tmp_path}"):
        clip = load_model(name, checkpoint=tmp_path)
        assert (clip.mean, clip.std) == ((0.5,) * 3, (0.25,) * 3)
        assert (clip.resize_mode, clip.interpolation, clip.image_size) == ("squash", "bilinear", 32)
    for key, wrong, said in (("resize_mode", "longest", "by 'longest'"), ("mean", "abc", "three numbers")):
        changed = config | {"preprocess_cfg": config["preprocess_cfg"] | {key: wrong}}
        write_json(tmp_path / "open_clip_config.json", changed)
        with pytest.raises(UserError, match=said):
            load_model(checkpoint=tmp_path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("RN51", "no model is called 'RN51'.*RN50"),
        ("local-dir:/nowhere", "cannot be found"),
        (None, "which model is it"),
    ],
)
def test_unknown_names_get_one_clear_line(name: str | None, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_model(name)


def test_a_checkpoint_that_does_not_say_what_it_is_is_recognised_in_the_error(tmp_path: Path) -> None:
    torch.save({"state_dict": load_model(TINY).model.state_dict()}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=f"give --model .*; its tensors are those of {TINY}"):
        load_model(checkpoint=tmp_path / "a.pt")


@pytest.mark.parametrize("name", OURS)
def test_our_configurations_are_open_clips(name: str) -> None:
    assert json.loads((CONFIG_FOLDER / f"{name}.json").read_text()) == open_clip.get_model_config(name)
