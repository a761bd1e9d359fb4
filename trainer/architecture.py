"""Which CLIP a state dict is, from its names and shapes alone: for `trainer inspect`, before any model is built.

The configurations are open_clip's own files and ours, read without importing open_clip (which takes seconds). Towers of
timm and of transformers are not known here; a checkpoint of theirs names its model.
"""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from torch import Tensor

Shape = tuple[int, ...]
JIT_ONLY: Final = ("input_resolution", "context_length", "vocab_size")
"""What OpenAI's archives carry beside weights."""
_VISION: Final = {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"}
_TEXT: Final = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}
_WEIGHT_AND_BIAS: Final = ("weight", "bias")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A configuration beside a state dict."""

    names: tuple[str, ...]
    """Of the configurations that have these tensors; they may differ in heads and activation."""
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    other_shapes: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether every tensor is there and in its shape, and none is too many."""
        return not (self.missing or self.unexpected or self.other_shapes)


def find_fit(state_dict: Mapping[str, Tensor], *, name: str | None = None) -> Fit | None:
    """The configuration that fits best, or how the one of that `name` does; None where none is near."""
    shapes = {key: tuple(tensor.shape) for key, tensor in state_dict.items() if key not in JIT_ONLY}
    known = {key: value for key, value in _all_shapes().items() if name is None or key == name}
    if not known or not shapes:
        return None
    wrong = {key: _distance(shapes, _in_style_of(shapes, expected)) for key, expected in known.items()}
    least = min(wrong.values())
    if name is None and least > len(shapes) / 2:
        return None
    names = tuple(sorted(key for key, number in wrong.items() if number == least))
    return compare(shapes, _in_style_of(shapes, known[names[0]]), names=names)


def compare(shapes: Mapping[str, Shape], expected: Mapping[str, Shape], *, names: tuple[str, ...]) -> Fit:
    """What a state dict of these shapes lacks and has too much."""
    return Fit(
        names=names,
        missing=tuple(key for key in expected if key not in shapes),
        unexpected=tuple(key for key in shapes if key not in expected),
        other_shapes=tuple(
            f"{key} {shapes[key]} instead of {expected[key]}"
            for key in expected
            if key in shapes
            and shapes[key] != expected[key]
            and not {shapes[key], expected[key]} <= {(), (1,)}
        ),
    )


def _distance(shapes: Mapping[str, Shape], expected: Mapping[str, Shape]) -> int:
    fit = compare(shapes, expected, names=())
    return len(fit.missing) + len(fit.unexpected) + len(fit.other_shapes)


def _in_style_of(shapes: Mapping[str, Shape], expected: Mapping[str, Shape]) -> Mapping[str, Shape]:
    """The expected names, the text tower's without `text.` where the state dict's are: open_clip reads both."""
    plain = "positional_embedding" in shapes
    return {key.removeprefix("text."): shape for key, shape in expected.items()} if plain else expected


@cache
def _all_shapes() -> dict[str, dict[str, Shape]]:
    found = {}
    for path in _configurations():
        shapes = expected_shapes(json.loads(path.read_text(encoding="utf-8")))
        if shapes is not None:
            found[path.stem] = shapes
    return found


def _configurations() -> Iterator[Path]:
    yield from sorted((Path(__file__).parent / "model_configs").glob("*.json"))
    package = importlib.util.find_spec("open_clip")
    if package is not None and package.origin is not None:
        yield from sorted((Path(package.origin).parent / "model_configs").glob("*.json"))


def expected_shapes(config: Mapping[str, Any]) -> dict[str, Shape] | None:
    """Names and shapes of the tensors of an open_clip configuration; None where a tower is timm's or transformers'."""
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    rest = {*config} - {"embed_dim", "quick_gelu", "custom_text", "vision_cfg", "text_cfg", "init_logit_bias"}
    if rest or {*vision} - _VISION or {*text} - _TEXT:
        return None
    resnet = isinstance(vision.get("layers"), list)
    shapes: dict[str, Shape] = {"logit_scale": ()}
    if "init_logit_bias" in config:
        shapes["logit_bias"] = ()
    image = _resnet(vision, config["embed_dim"]) if resnet else _transformer(vision, config["embed_dim"])
    shapes |= {f"visual.{name}": shape for name, shape in image}
    prefix = "text." if config.get("custom_text") else ""
    return shapes | {f"{prefix}{name}": shape for name, shape in _text(text, config["embed_dim"])}


def _transformer(vision: Mapping[str, Any], embed: int) -> Iterator[tuple[str, Shape]]:
    width, patch = vision.get("width", 768), vision.get("patch_size", 16)
    side = vision.get("image_size", 224) // patch
    yield "class_embedding", (width,)
    yield "positional_embedding", (side * side + 1, width)
    yield "proj", (width, embed)
    yield "conv1.weight", (width, 3, patch, patch)
    for norm in ("ln_pre", "ln_post"):
        yield from ((f"{norm}.{what}", (width,)) for what in _WEIGHT_AND_BIAS)
    yield from _blocks(width, vision.get("layers", 12), round(width * vision.get("mlp_ratio", 4.0)))


def _text(text: Mapping[str, Any], embed: int) -> Iterator[tuple[str, Shape]]:
    width = text.get("width", 512)
    yield "positional_embedding", (text.get("context_length", 77), width)
    yield "text_projection", (width, embed)
    yield "token_embedding.weight", (text.get("vocab_size", 49408), width)
    yield from ((f"ln_final.{what}", (width,)) for what in _WEIGHT_AND_BIAS)
    yield from _blocks(width, text.get("layers", 12), round(width * text.get("mlp_ratio", 4.0)))


def _blocks(width: int, layers: int, inner: int) -> Iterator[tuple[str, Shape]]:
    linear = {"attn.out_proj": (width, width), "mlp.c_fc": (inner, width), "mlp.c_proj": (width, inner)}
    for number in range(layers):
        block = f"transformer.resblocks.{number}"
        yield f"{block}.attn.in_proj_weight", (3 * width, width)
        yield f"{block}.attn.in_proj_bias", (3 * width,)
        for norm in ("ln_1", "ln_2"):
            yield from ((f"{block}.{norm}.{what}", (width,)) for what in _WEIGHT_AND_BIAS)
        for name, shape in linear.items():
            yield f"{block}.{name}.weight", shape
            yield f"{block}.{name}.bias", shape[:1]


def _resnet(vision: Mapping[str, Any], embed: int) -> Iterator[tuple[str, Shape]]:
    """CLIP's ModifiedResNet: a stem of three convolutions, four stages of bottlenecks, pooling by attention."""
    width = vision.get("width", 64)
    for number, (outward, inward) in enumerate(
        ((width // 2, 3), (width // 2, width // 2), (width, width // 2)), 1
    ):
        yield f"conv{number}.weight", (outward, inward, 3, 3)
        yield from _batch_norm(f"bn{number}", outward)
    inward = width
    for stage, blocks in enumerate(vision["layers"]):
        planes = width * 2**stage
        for block in range(blocks):
            yield from _bottleneck(f"layer{stage + 1}.{block}", inward, planes, first=block == 0)
            inward = planes * 4
    side = vision.get("image_size", 224) // 32
    yield "attnpool.positional_embedding", (side * side + 1, width * 32)
    for name in ("k_proj", "q_proj", "v_proj", "c_proj"):
        outward = embed if name == "c_proj" else width * 32
        yield f"attnpool.{name}.weight", (outward, width * 32)
        yield f"attnpool.{name}.bias", (outward,)


def _bottleneck(name: str, inward: int, planes: int, *, first: bool) -> Iterator[tuple[str, Shape]]:
    convolutions = ((planes, inward, 1, 1), (planes, planes, 3, 3), (planes * 4, planes, 1, 1))
    for number, shape in enumerate(convolutions, start=1):
        yield f"{name}.conv{number}.weight", shape
        yield from _batch_norm(f"{name}.bn{number}", shape[0])
    if first:
        yield f"{name}.downsample.0.weight", (planes * 4, inward, 1, 1)
        yield from _batch_norm(f"{name}.downsample.1", planes * 4)


def _batch_norm(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield from ((f"{name}.{what}", (width,)) for what in (*_WEIGHT_AND_BIAS, "running_mean", "running_var"))
    yield f"{name}.num_batches_tracked", ()
