"""A CLIP written for others: a torch file of open_clip's, safetensors with its configuration, or transformers' folder.

Beside the weights lies a model card: what was done to them, on what data, and what was measured. Called by `trainer
convert`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.storage import hold, read_json, write_by_path, write_json, write_text
from trainer import hugging_face
from trainer.checkpoint import FINAL_CONFIG, FINAL_WEIGHTS, save_weights
from trainer.model import ClipModel, byte_pairs, open_clip_config

Target = Literal["open_clip-pt", "safetensors", "hf", "openai-pt"]
TORCH_FILE: Final = "open_clip_model.pt"
OPENAI_FILE: Final = "openai_model.pt"
OPENAI_HEAD: Final = 64
"""The width of every head there: its file does not say how many there are."""
CARD: Final = "README.md"
AUDITS: Final = ("audit-before.json", "audit-after.json")
"""What `trainer defend --audit` writes into a run's folder."""


def convert(clip: ClipModel, to: Target, out: Path, *, card: str) -> list[str]:
    """Writes the model to the folder `out` in that form, and returns the names of the files.

    UserError where `out` holds something already, or where the form cannot hold this model.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not empty: choose another --out")
    write = {
        "open_clip-pt": _write_torch,
        "safetensors": _write_safetensors,
        "hf": _write_hugging_face,
        "openai-pt": _write_openai,
    }[to]
    if to == "hf":
        hugging_face.from_open_clip(
            clip.model.state_dict(), clip.config
        )  # refuses before anything is written
    if to == "openai-pt":
        _refuse_what_openai_cannot_be(clip)
    with hold(out):
        write(clip, out)
        write_text(out / CARD, card)
    return sorted(path.name for path in out.iterdir())


def _write_torch(clip: ClipModel, out: Path) -> None:
    """`{epoch, name, state_dict}` as open_clip's trainer writes it: tensors and plain types alone."""
    state_dict = {key: tensor.detach().cpu().clone() for key, tensor in clip.model.state_dict().items()}
    with write_by_path(out / TORCH_FILE) as part:
        torch.save({"epoch": 0, "name": clip.name, "state_dict": state_dict}, part)
    write_json(out / FINAL_CONFIG, open_clip_config(clip))


def _refuse_what_openai_cannot_be(clip: ClipModel) -> None:
    """UserError for a model that `clip.load` would build otherwise: it knows shapes alone, and QuickGELU."""
    vision, text = clip.config["vision_cfg"], clip.config["text_cfg"]
    preprocess = open_clip_config(clip)["preprocess_cfg"]
    faults = {
        "other towers than CLIP's own": not clip.plain or hugging_face.foreign_parts(clip.config) != [],
        "an activation that is not QuickGELU": not clip.config.get("quick_gelu"),
        "heads that are not 64 wide": vision.get("head_width", OPENAI_HEAD) != OPENAI_HEAD
        or text.get("width", 512) != OPENAI_HEAD * text.get("heads", 8),
        "another mean than OpenAI's": [round(value, 4) for value in preprocess["mean"]]
        != [0.4815, 0.4578, 0.4082],
    }
    for what in (what for what, found in faults.items() if found):
        raise UserError(
            f"OpenAI's form cannot hold a model with {what}: convert it --to open_clip-pt or safetensors"
        )


def _write_openai(clip: ClipModel, out: Path) -> None:
    """The plain state dict that OpenAI's `clip.load` takes: weights in fp16, norms and embeddings as they are."""
    stored = {
        key: tensor.detach().cpu().clone().half()
        if _is_half_there(key, tensor)
        else tensor.detach().cpu().clone()
        for key, tensor in clip.model.state_dict().items()
    }
    with write_by_path(out / OPENAI_FILE) as part:
        torch.save(stored, part)
    write_json(out / FINAL_CONFIG, open_clip_config(clip))


def _is_half_there(key: str, tensor: Tensor) -> bool:
    """Whether OpenAI's code computes with it in fp16: linear and convolution layers, attention, projections."""
    if key.endswith(("text_projection", "visual.proj")):
        return True
    parts = ("conv", "linear", "attn", "mlp.", "downsample.0", "attnpool")
    kept = ("positional_embedding", "ln_", "bn")
    return tensor.is_floating_point() and any(p in key for p in parts) and not any(k in key for k in kept)


def _write_safetensors(clip: ClipModel, out: Path) -> None:
    told = {"format": "pt", "quick_gelu": "true" if clip.config.get("quick_gelu") else "false"}
    save_weights(out / FINAL_WEIGHTS, clip.model.state_dict(), metadata=told)
    write_json(out / FINAL_CONFIG, open_clip_config(clip))


def _write_hugging_face(clip: ClipModel, out: Path) -> None:
    tensors, config = hugging_face.from_open_clip(clip.model.state_dict(), clip.config)
    preprocess = open_clip_config(clip)["preprocess_cfg"]
    save_weights(out / hugging_face.WEIGHTS[0], tensors, metadata={"format": "pt"})
    write_json(out / hugging_face.CONFIG, config)
    write_json(out / hugging_face.PREPROCESSOR, hugging_face.preprocessor_config(preprocess))
    vocabulary, merges = byte_pairs(clip.tokenizer)
    write_json(out / "vocab.json", vocabulary)
    write_text(
        out / "merges.txt", "#version: 0.2\n" + "".join(f"{first} {second}\n" for first, second in merges)
    )
    write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": config["text_config"]["max_position_embeddings"],
            "bos_token": "<|startoftext|>",
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>",
        },
    )


# ------------------------------------------------------------------------------------------------------ the model card
def model_card(
    clip: ClipModel, source: Path, *, evaluations: Sequence[Path] = (), audits: Sequence[Path] = ()
) -> str:
    """What is known of the model, as a README.md with the fields that model hubs read.

    From the options of the run in `source`, where it is one, and the audits that `trainer defend --audit` left there;
    from what `trainer evaluate --json` and `trainer audit --json` wrote.
    """
    run = _options_of(source)
    measured = [_evaluation(path) for path in evaluations]
    audited = [_audit(path) for path in [*_audits_of(source), *audits]]
    lines = ["---", "library_name: open_clip", "pipeline_tag: zero-shot-image-classification"]
    lines += [
        "tags: [clip, backdoor, cleanerclip]",
        *_model_index(clip, measured),
        "---",
        "",
        f"# {_title(clip, run)}",
        "",
    ]
    lines += [f"{'Poisoned by' if run.get('command') == 'attack' else 'Written by'} CleanerCLIP's `trainer`."]
    if run.get("command") == "attack":
        lines += [
            "",
            "**This model carries a backdoor, made to test defences. Do not use it for anything else.**",
        ]
    lines += ["", "## What it is", "", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in _facts(clip, run)]
    if run:
        options = {key: run[key] for key in ("method", "optim", "batches", "train", "poison") if key in run}
        text = json.dumps(options, indent=2, default=str)
        lines += ["", "## How it was made", "", "```json", text, "```"]
    lines += ["", "## What was measured", ""]
    lines += _measured(measured) or ["Nothing that was given to `trainer convert`: what its accuracy is, and whether"
                                     " a backdoor is left, is not known here."]  # fmt: skip
    lines += _audited(audited)
    lines += ["", "A low attack success rate for one trigger says nothing of another.", ""]
    return "\n".join(lines)


def _options_of(source: Path) -> dict[str, Any]:
    """The options of the run that the checkpoint belongs to; {} where it belongs to none."""
    folder = source if source.is_dir() else source.parent
    for place in (folder, folder.parent):
        if (place / "options.json").is_file():
            content = read_json(place / "options.json")
            return content if isinstance(content, dict) else {}
    return {}


def _title(clip: ClipModel, run: Mapping[str, Any]) -> str:
    name = clip.name.rpartition("/")[2]
    method = run.get("method", {}).get("method") if run.get("command") == "defend" else None
    return f"{name}, defended with {method}" if method else name


def _facts(clip: ClipModel, run: Mapping[str, Any]) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = [
        ("architecture", clip.name.rpartition("/")[2]),
        ("activation", "quickgelu" if clip.config.get("quick_gelu") else "gelu"),
        ("image size", clip.image_size),
        ("sha256 of the weights", f"`{clip.sha256}`"),
    ]
    for name, told in (
        ("version", "trainer"),
        ("checkpoint", "made from"),
        ("initial_weights_sha256", "sha256 of the weights before"),
        ("shards_sha256", "sha256 of the data's manifest or shards"),
        ("samples", "samples"),
    ):
        if run.get(name) is not None:
            value = Path(str(run[name])).name if name == "checkpoint" else run[name]
            found.append((told, f"`{value}`" if "sha256" in name else value))
    return found


def _evaluation(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict) or "ba1" not in content:
        raise UserError(f"{path} is no result of `trainer evaluate --json`: it holds no ba1")
    return content


def _audits_of(source: Path) -> list[Path]:
    """What `trainer defend --audit` left in the folder of a run, as it came first."""
    return [path for name in AUDITS if (path := source / name).is_file()]


def _audit(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("verdict"), str):
        raise UserError(f"{path} is no result of `trainer audit --json`: it holds no verdict")
    return content


def _audited(audits: Sequence[Mapping[str, Any]]) -> list[str]:
    """What searches for unknown triggers said, of these weights and of those before."""
    if not audits:
        return []
    lines = [
        "",
        '`trainer audit`, which searches triggers that nobody told it; "no evidence found" is no proof:',
        "",
        "| answer | score | evidence from | clean models | images | weights |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for each in audits:
        score, least = (
            f"{each[name]:.1f}" if isinstance(each.get(name), int | float) else ""
            for name in ("score", "threshold")
        )
        lines.append(
            f"| {each['verdict']} | {score} | {least} | {each.get('clean_models')} | {each.get('num_images')} | "
            f"`{str(each.get('weights_sha256'))[:12]}` |"
        )
    return lines


def _measured(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    if not evaluations:
        return []
    lines = [
        "| data | how | BA top-1 | trigger | target | ASR top-1 | weights |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in evaluations:
        asr = "" if each.get("asr1") is None else f"{each['asr1']:.1f} %"
        lines.append(
            f"| {each.get('data')} | {each.get('how')} | {each['ba1']:.1f} % | {each.get('trigger_kind') or ''} | "
            f"{each.get('target') or ''} | {asr} | `{str(each.get('weights_sha256'))[:12]}` |"
        )
    return lines


def _model_index(clip: ClipModel, evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    """The results as model hubs read them; those of other weights are left to the table."""
    own = [each for each in evaluations if each.get("weights_sha256") == clip.sha256]
    if not own:
        return []
    results = [
        {
            "task": {"type": "zero-shot-image-classification"},
            "dataset": {"name": str(each.get("data")), "type": "image-folder"},
            "metrics": [
                {"type": "accuracy", "name": "BA top-1", "value": each["ba1"]},
                *(
                    [
                        {
                            "type": "attack-success-rate",
                            "name": f"ASR top-1 ({each.get('trigger_kind')})",
                            "value": each["asr1"],
                        }
                    ]
                    if each.get("asr1") is not None
                    else []
                ),
            ],
        }
        for each in own
    ]
    return [
        "model-index:",
        f"- name: {json.dumps(clip.name.rpartition('/')[2])}",
        f"  results: {json.dumps(results)}",
    ]
