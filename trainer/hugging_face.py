"""Hugging Face's CLIPModel and SiglipModel, and open_clip's names for the same weights: our own table, both ways.

A folder holds `config.json`, `model.safetensors` (or `pytorch_model.bin`) and `preprocessor_config.json`. What the
table does not know is refused, never guessed. Called by `checkpoint`, `model`, `conversion`; needs no transformers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.storage import read_json

CONFIG: Final = "config.json"
PREPROCESSOR: Final = "preprocessor_config.json"
WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin")
MODEL_TYPES: Final = {"clip": "CLIPModel", "siglip": "SiglipModel"}

_CLIP: Final = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.encoder.layers.": "transformer.resblocks.",
    "text_model.final_layer_norm.": "ln_final.",
    "text_projection.weight": "text_projection",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.": "visual.ln_pre.",
    "vision_model.encoder.layers.": "visual.transformer.resblocks.",
    "vision_model.post_layernorm.": "visual.ln_post.",
    "visual_projection.weight": "visual.proj",
    "logit_scale": "logit_scale",
}
"""Beginnings of the names of CLIPModel and of open_clip's CLIP."""
_SIGLIP: Final = {
    "text_model.embeddings.token_embedding.weight": "text.token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "text.positional_embedding",
    "text_model.encoder.layers.": "text.transformer.resblocks.",
    "text_model.final_layer_norm.": "text.ln_final.",
    "text_model.head.": "text.text_projection.",
    "vision_model.embeddings.patch_embedding.": "visual.trunk.patch_embed.proj.",
    "vision_model.embeddings.position_embedding.weight": "visual.trunk.pos_embed",
    "vision_model.encoder.layers.": "visual.trunk.blocks.",
    "vision_model.post_layernorm.": "visual.trunk.norm.",
    "vision_model.head.probe": "visual.trunk.attn_pool.latent",
    "vision_model.head.attention.out_proj.": "visual.trunk.attn_pool.proj.",
    "vision_model.head.layernorm.": "visual.trunk.attn_pool.norm.",
    "vision_model.head.mlp.": "visual.trunk.attn_pool.mlp.",
    "logit_scale": "logit_scale",
    "logit_bias": "logit_bias",
}
_BLOCK: Final = {
    "layer_norm1.": "ln_1.",
    "layer_norm2.": "ln_2.",
    "mlp.fc1.": "mlp.c_fc.",
    "mlp.fc2.": "mlp.c_proj.",
    "self_attn.out_proj.": "attn.out_proj.",
    "self_attn.qkv.": "attn.in_proj_",
}
"""Within a layer; query, key and value are one tensor in open_clip."""
_TIMM_BLOCK: Final = {
    "layer_norm1.": "norm1.",
    "layer_norm2.": "norm2.",
    "mlp.": "mlp.",
    "self_attn.out_proj.": "attn.proj.",
    "self_attn.qkv.": "attn.qkv.",
}
_TRANSPOSED: Final = ("text_projection", "visual.proj")
_IGNORED: Final = ".embeddings.position_ids"
"""Older files number their positions."""
_SIZES: Final = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_BASE: Final = dict(zip(_SIZES, (768, 3072, 12, 12), strict=True))
_OF_CLIP: Final = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_OF_SIGLIP: Final = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
_DEFAULTS: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    "clip": {
        "text_config": {
            **dict(zip(_SIZES, (512, 2048, 12, 8), strict=True)),
            **_OF_CLIP,
            "vocab_size": 49408,
            "max_position_embeddings": 77,
            "eos_token_id": 49407,
        },
        "vision_config": {**_BASE, **_OF_CLIP, "image_size": 224, "patch_size": 32},
    },
    "siglip": {
        "text_config": {**_BASE, **_OF_SIGLIP, "vocab_size": 32000, "max_position_embeddings": 64},
        "vision_config": {**_BASE, **_OF_SIGLIP, "image_size": 224, "patch_size": 16},
    },
}
"""What transformers takes where a config.json says nothing."""
_OPENAI_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
_OPENAI_STD: Final = (0.26862954, 0.26130258, 0.27577711)
_RESAMPLE: Final = {2: "bilinear", 3: "bicubic"}


def read_config(folder: Path) -> dict[str, Any] | None:
    """The config.json of a CLIPModel or SiglipModel in the folder; None where there is none of these."""
    path = folder / CONFIG
    content = read_json(path) if path.is_file() else None
    known = isinstance(content, dict) and content.get("model_type") in MODEL_TYPES
    return content if known else None


def has_these_names(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are called as Hugging Face calls them."""
    return any(name.startswith(("text_model.encoder.", "vision_model.encoder.")) for name in state_dict)


# ----------------------------------------------------------------------------------------------------- configurations
def to_open_clip_config(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """`model_cfg` and `preprocess_cfg` of open_clip; UserError for what its models cannot be."""
    kind, where = config["model_type"], folder / CONFIG
    parts = {part: {**defaults, **(config.get(part) or {})} for part, defaults in _DEFAULTS[kind].items()}
    text, vision = parts["text_config"], parts["vision_config"]
    for part in (text, vision):
        if part["layer_norm_eps"] != (1e-5 if kind == "clip" else 1e-6):
            raise UserError(
                f"{where}: layer_norm_eps {part['layer_norm_eps']} is not the one of {MODEL_TYPES[kind]}"
            )
    model = _clip_config if kind == "clip" else _siglip_config
    return {
        "model_cfg": model(config, text, vision, where),
        "preprocess_cfg": _preprocessing(folder, vision["image_size"], kind),
    }


def _clip_config(
    config: Mapping[str, Any], text: Mapping[str, Any], vision: Mapping[str, Any], where: Path
) -> dict[str, Any]:
    if text["hidden_act"] != vision["hidden_act"] or text["hidden_act"] not in ("quick_gelu", "gelu"):
        raise UserError(
            f"{where}: activations {text['hidden_act']} and {vision['hidden_act']}; open_clip knows quick_gelu and gelu"
        )
    if text["eos_token_id"] not in (2, text["vocab_size"] - 1):
        raise UserError(f"{where}: the end token {text['eos_token_id']} is not the vocabulary's last")
    return {
        "embed_dim": config.get("projection_dim", 512),
        "quick_gelu": text["hidden_act"] == "quick_gelu",
        "vision_cfg": {
            "image_size": vision["image_size"],
            "layers": vision["num_hidden_layers"],
            "width": vision["hidden_size"],
            "head_width": vision["hidden_size"] // vision["num_attention_heads"],
            "mlp_ratio": vision["intermediate_size"] / vision["hidden_size"],
            "patch_size": vision["patch_size"],
        },
        "text_cfg": {
            "context_length": text["max_position_embeddings"],
            "vocab_size": text["vocab_size"],
            "width": text["hidden_size"],
            "heads": text["num_attention_heads"],
            "layers": text["num_hidden_layers"],
            "mlp_ratio": text["intermediate_size"] / text["hidden_size"],
        },
    }


def _siglip_config(
    config: Mapping[str, Any], text: Mapping[str, Any], vision: Mapping[str, Any], where: Path
) -> dict[str, Any]:
    acts = {part["hidden_act"] for part in (text, vision)}
    if not acts <= {"gelu_pytorch_tanh", "gelu"}:
        raise UserError(
            f"{where}: activations {', '.join(sorted(acts))}; known are gelu_pytorch_tanh and gelu"
        )
    act = "tanh" if vision["hidden_act"] == "gelu_pytorch_tanh" else "none"
    of_layers = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    tower = "_".join(str(vision[name]) for name in (*of_layers, "patch_size", "image_size"))
    return {
        "embed_dim": text.get("projection_size", text["hidden_size"]),
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": vision["image_size"],
            "timm_model_name": f"cleanerclip_siglip_{tower}_{act}",
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {
            "context_length": text["max_position_embeddings"],
            "vocab_size": text["vocab_size"],
            "hf_tokenizer_name": str(where.parent),
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "width": text["hidden_size"],
            "heads": text["num_attention_heads"],
            "layers": text["num_hidden_layers"],
            "mlp_ratio": text["intermediate_size"] / text["hidden_size"],
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6},
            "act_kwargs": {"approximate": "tanh" if text["hidden_act"] == "gelu_pytorch_tanh" else "none"},
        },
    }


def _preprocessing(folder: Path, size: int, kind: str) -> dict[str, Any]:
    """As preprocessor_config.json says, else as the kind's own."""
    told = read_json(folder / PREPROCESSOR) if (folder / PREPROCESSOR).is_file() else {}
    told = told if isinstance(told, dict) else {}
    half = (0.5, 0.5, 0.5)
    crops = told.get("do_center_crop", kind == "clip")
    return {
        "size": [size, size],
        "mean": list(told.get("image_mean") or (_OPENAI_MEAN if kind == "clip" else half)),
        "std": list(told.get("image_std") or (_OPENAI_STD if kind == "clip" else half)),
        "interpolation": _RESAMPLE.get(told.get("resample", 3), "bicubic"),
        "resize_mode": "shortest" if crops else "squash",
    }


# -------------------------------------------------------------------------------------------------------------- names
def to_open_clip(state_dict: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """The tensors under open_clip's names, in its shapes; names that the table does not know stay as they are."""
    joined = _join_projections(state_dict)
    table = _CLIP if kind == "clip" else _SIGLIP
    found: dict[str, Tensor] = {}
    for name, tensor in joined.items():
        if name.endswith(_IGNORED):
            continue
        renamed = _rename(name, table, kind)
        found[renamed] = tensor.T.contiguous() if renamed in _TRANSPOSED else tensor
    if kind == "siglip":
        _split_pool(found)
        for name in ("logit_scale", "logit_bias"):
            if name in found and found[name].numel() == 1:
                found[name] = found[name].reshape(())
        if "visual.trunk.pos_embed" in found:
            found["visual.trunk.pos_embed"] = found["visual.trunk.pos_embed"].unsqueeze(0)
    return found


def _rename(name: str, table: Mapping[str, str], kind: str) -> str:
    for theirs, ours in table.items():
        if name.startswith(theirs):
            rest = name.removeprefix(theirs)
            if not theirs.endswith("layers."):
                return ours + rest
            number, _, rest = rest.partition(".")
            block = _TIMM_BLOCK if kind == "siglip" and theirs.startswith("vision") else _BLOCK
            inner = next((b + rest.removeprefix(a) for a, b in block.items() if rest.startswith(a)), rest)
            return f"{ours}{number}.{inner}"
    return name


def _join_projections(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Query, key and value of each layer as one tensor `self_attn.qkv`."""
    found: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        if ".self_attn.q_proj." in name:
            parts = [name.replace(".q_proj.", f".{letter}_proj.") for letter in "qkv"]
            if all(part in state_dict for part in parts):
                found[name.replace(".q_proj.", ".qkv.")] = torch.cat([state_dict[part] for part in parts])
        elif ".self_attn.k_proj." not in name and ".self_attn.v_proj." not in name:
            found[name] = tensor
    return found


def _split_pool(found: dict[str, Tensor]) -> None:
    """The pooling's one projection as timm's query, and its key with value."""
    for what in ("weight", "bias"):
        joined = found.pop(f"vision_model.head.attention.in_proj_{what}", None)
        if joined is not None:
            width = len(joined) // 3
            found[f"visual.trunk.attn_pool.q.{what}"] = joined[:width].clone()
            found[f"visual.trunk.attn_pool.kv.{what}"] = joined[width:].clone()


# -------------------------------------------------------------------------------------------------------- the way out
_ELSE: Final = "convert it --to open_clip-pt or safetensors"
_MODEL: Final = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}
_VISION: Final = {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"}
_TEXT: Final = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}


def from_open_clip(
    state_dict: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of an open_clip CLIP with its own ViT as CLIPModel's, and its config.json.

    UserError for other models: CLIPModel has no ResNet, and no other text tower.
    """
    vision, text = config["vision_cfg"], config["text_cfg"]
    if isinstance(vision.get("layers"), list | tuple):
        raise UserError(f"transformers' CLIPModel cannot be a ResNet: {_ELSE}")
    others = foreign_parts(config)
    if others:
        raise UserError(f"transformers' CLIPModel cannot be a model with {', '.join(others[:3])}: {_ELSE}")
    tensors: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        tensors |= _theirs(name, tensor)
    return tensors, _hugging_face_config(config, vision, text)


def foreign_parts(config: Mapping[str, Any]) -> list[str]:
    """What an open_clip model_cfg says that CLIP's own two towers do not have."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    return [*({*vision} - _VISION), *({*text} - _TEXT), *({*config} - _MODEL)]


def _theirs(name: str, tensor: Tensor) -> dict[str, Tensor]:
    tensor = tensor.T.contiguous() if name in _TRANSPOSED else tensor.contiguous()
    for theirs, ours in _CLIP.items():
        if not name.startswith(ours):
            continue
        rest = name.removeprefix(ours)
        if not theirs.endswith("layers."):
            return {theirs + rest: tensor}
        number, _, rest = rest.partition(".")
        inner = next((a + rest.removeprefix(b) for a, b in _BLOCK.items() if rest.startswith(b)), rest)
        full = f"{theirs}{number}.{inner}"
        if ".qkv." not in full:
            return {full: tensor}
        names = (full.replace(".qkv.", f".{letter}_proj.") for letter in "qkv")
        return {name: third.clone() for name, third in zip(names, tensor.chunk(3), strict=True)}
    raise UserError(f"transformers' CLIPModel has no place for {name}")


def _hugging_face_config(
    config: Mapping[str, Any], vision: Mapping[str, Any], text: Mapping[str, Any]
) -> dict[str, Any]:
    act = "quick_gelu" if config.get("quick_gelu") else "gelu"
    width, text_width, vocabulary = (
        vision.get("width", 768),
        text.get("width", 512),
        text.get("vocab_size", 49408),
    )
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config["embed_dim"],
        "logit_scale_init_value": 2.6592,
        "text_config": {
            "model_type": "clip_text_model",
            "vocab_size": vocabulary,
            "hidden_size": text_width,
            "intermediate_size": round(text_width * text.get("mlp_ratio", 4.0)),
            "num_hidden_layers": text.get("layers", 12),
            "num_attention_heads": text.get("heads", 8),
            "max_position_embeddings": text.get("context_length", 77),
            "hidden_act": act,
            "layer_norm_eps": 1e-5,
            "projection_dim": config["embed_dim"],
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
            "pad_token_id": vocabulary - 1,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": width,
            "intermediate_size": round(width * vision.get("mlp_ratio", 4.0)),
            "num_hidden_layers": vision.get("layers", 12),
            "num_attention_heads": width // vision.get("head_width", 64),
            "image_size": vision.get("image_size", 224),
            "patch_size": vision.get("patch_size", 16),
            "hidden_act": act,
            "layer_norm_eps": 1e-5,
            "projection_dim": config["embed_dim"],
        },
    }


def preprocessor_config(preprocess: Mapping[str, Any]) -> dict[str, Any]:
    """open_clip's preprocess_cfg as a CLIPImageProcessor's preprocessor_config.json."""
    side = preprocess["size"][0]
    crops = preprocess["resize_mode"] == "shortest"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side} if crops else {"height": side, "width": side},
        "resample": next(number for number, word in _RESAMPLE.items() if word == preprocess["interpolation"]),
        "do_center_crop": crops,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess["mean"]),
        "image_std": list(preprocess["std"]),
    }
