"""CLIPs by name: the only module that imports open_clip.

A name is any open_clip name, one of our small configurations in `model_configs/`, or `hf-hub:` / `local-dir:`.
`checkpoint` reads the weights; here they meet an architecture, and anything that does not fit exactly is refused.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from pipeline.errors import UserError, first_line
from pipeline.storage import read_json, write_json
from trainer import checkpoint as checkpoints
from trainer import hugging_face, images, torchvision_shim, transformers_shim  # noqa: F401
from trainer.architecture import find_fit
from trainer.checkpoint import hash_weights
from trainer.vocabulary import reduce_vocabulary

# isort: split
import open_clip  # noqa: TID251
from open_clip.model import convert_to_custom_text_state_dict  # noqa: TID251
from open_clip.tokenizer import HFTokenizer  # noqa: TID251

Activation = Literal["quickgelu", "gelu"]

CONFIG_FOLDER = Path(__file__).parent / "model_configs"
OPENAI_VOCABULARY = 49_408
LOCAL = "local-dir:"
_JIT_ONLY_KEYS = (
    "input_resolution",
    "context_length",
    "vocab_size",
)  # what OpenAI's archives carry beside weights

_PREPROCESSING = ("mean", "std", "resize_mode", "interpolation")

open_clip.add_model_config(CONFIG_FOLDER)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipModel:
    """A CLIP with all that turns images and captions into its inputs."""

    model: Any
    """The open_clip module, float32, on the CPU."""
    tokenizer: Callable[[list[str]], Tensor]
    """N captions -> int64 (N, context length)."""
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize_mode: images.ResizeMode
    """How an image becomes image_size x image_size for evaluation."""
    interpolation: images.Interpolation
    name: str
    config: Mapping[str, Any]
    """open_clip's model_cfg, with `quick_gelu` as it is used."""
    sha256: str
    """Of the weights as loaded, whatever file format they came in."""

    @property
    def sigmoid(self) -> bool:
        """Whether the model has a bias for its logits, as SigLIP's sigmoid loss trains it."""
        return getattr(self.model, "logit_bias", None) is not None

    @property
    def plain(self) -> bool:
        """Whether it is CLIP's own two towers, all of whose weights take part in both embeddings."""
        return isinstance(self.model, open_clip.CLIP)

    def resize(self, image: Image.Image) -> Tensor:
        """An image as the model's pixels for evaluation: uint8 (3, image_size, image_size)."""
        return images.to_tensor(
            images.resize(image, self.image_size, mode=self.resize_mode, interpolation=self.interpolation)
        )

    def normalise(self, image_N3HW: Tensor) -> Tensor:
        """uint8 pixels (or floats in [0, 1]) of shape (N, 3, H, W) as the model's float input."""
        mean, std = (
            torch.tensor(each, device=image_N3HW.device).view(1, 3, 1, 1) for each in (self.mean, self.std)
        )
        if image_N3HW.dtype == torch.uint8:  # in place, on the copy: a third of the time for the same numbers
            return image_N3HW.float().div_(255).sub_(mean).div_(std)
        return (image_N3HW - mean) / std


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """Which model, with which weights."""

    checkpoint: Path | None = None
    """Weights: safetensors, a torch file that holds only tensors, or a run's, open_clip's or Hugging Face's folder."""
    model: str | None = None
    """Any open_clip name (RN50-quickgelu, ViT-B-32, hf-hub:..., local-dir:...) or one of ours (cleanerclip-rn-64).
    May be left out where the checkpoint names it."""
    activation: Activation | None = None
    """For weights that do not say which activation they were trained with."""

    def load(self, *, seed: int = 0) -> ClipModel:
        """The model, in memory; random weights are drawn from `seed` where neither file nor name has any.

        UserError as `load_model` raises it.
        """
        return load_model(self.model, checkpoint=self.checkpoint, seed=seed, activation=self.activation)

    def check(self) -> None:
        """UserError where neither a checkpoint is given nor a model whose name means weights."""
        require_weights(self.model, self.checkpoint)

    def load_trained(self) -> ClipModel:
        """The model with weights that were trained; UserError where none are named."""
        self.check()
        return self.load()


def require_weights(model: str | None, checkpoint: Path | None) -> None:
    """UserError where neither a checkpoint is given nor a model whose name means weights."""
    if checkpoint is None and not (model or "").startswith(("hf-hub:", "local-dir:")):
        raise UserError(
            "which weights? give --checkpoint FILE, or --model hf-hub:NAME or local-dir:FOLDER, which have their own"
        )


def load_model(
    name: str | None = None,
    *,
    checkpoint: Path | None = None,
    seed: int = 0,
    activation: Activation | None = None,
) -> ClipModel:
    """The CLIP of that name with the weights of `checkpoint`, or with random weights drawn from `seed`.

    `name` may be left out where the checkpoint says it (ours do). `activation` settles QuickGELU or GELU for files
    that do not say it. Every tensor of the file must fit the model and every tensor of the model be in the file.
    UserError otherwise, and for unknown names.
    """
    weights = None if checkpoint is None else checkpoints.read_weights(checkpoint)
    name = _open_clip_name(name or _told_name(weights))
    config, preprocess = _find_config(name)
    if weights is None and _is_hugging_face(name):
        weights = checkpoints.read_weights(Path(name.removeprefix(LOCAL)))
    if weights is not None:
        _settle_activation(name, config, weights, activation)
    elif activation is not None:
        config["quick_gelu"] = activation == "quickgelu"
    model = _create(name, config, preprocess, seed=seed, hub_weights=weights is None)
    if weights is not None:
        _load_exactly(model, weights, name)
    _try_one_image(model, name)
    told = {} if weights is None else weights.preprocess
    preprocess = model.visual.preprocess_cfg | {key: told[key] for key in told if key in _PREPROCESSING}
    return ClipModel(
        model=model,
        tokenizer=_build_tokenizer(name, config),
        image_size=_square(model.visual.preprocess_cfg["size"], name),
        mean=_three_numbers(preprocess["mean"], name),
        std=_three_numbers(preprocess["std"], name),
        resize_mode=_known(preprocess["resize_mode"], ("shortest", "squash"), name),
        interpolation=_known(preprocess["interpolation"], images.INTERPOLATIONS, name),
        name=name,
        config=config,
        sha256=hash_weights(model.state_dict()),
    )


def shapes_of(name: str | None, weights: checkpoints.Weights) -> tuple[str, dict[str, tuple[int, ...]]]:
    """The name of the model that weights are of, and its tensors' shapes; UserError where no such model is known."""
    name = _open_clip_name(name or _told_name(weights))
    config, preprocess = _find_config(name)
    model = _create(name, config, preprocess, seed=0, hub_weights=False)
    return name, {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


def encode_text(model: Any, text_BL: Tensor) -> Tensor:
    """Caption embeddings (B, D), not normalised: `model.encode_text` without the padding that no one looks at.

    In CLIP's own text tower attention is causal and the end token is what counts, so what stands behind the batch's
    last end token changes nothing. Captions have some 12 tokens of 77: most of the work. Other towers get all.
    """
    cuts = (
        isinstance(model, open_clip.CLIP) and model.text_pool_type == "argmax" and model.attn_mask is not None
    )
    longest = int(text_BL.argmax(dim=1).max()) + 1
    length = min(-(-longest // 8) * 8, text_BL.shape[1])  # few different shapes
    if not cuts or length == text_BL.shape[1]:
        full: Tensor = model.encode_text(text_BL)
        return full
    text_BL = text_BL[:, :length]
    dtype = model.transformer.get_cast_dtype()
    x_BLW = model.token_embedding(text_BL).to(dtype) + model.positional_embedding[:length].to(dtype)
    x_BLW = model.ln_final(model.transformer(x_BLW, attn_mask=model.attn_mask[:length, :length]))
    end_BW = x_BLW[torch.arange(len(text_BL), device=text_BL.device), text_BL.argmax(dim=1)]
    projection = model.text_projection
    if projection is not None:
        end_BW = projection(end_BW) if isinstance(projection, nn.Linear) else end_BW @ projection
    embedded: Tensor = end_BW
    return embedded


def open_clip_config(clip: ClipModel) -> dict[str, Any]:
    """What `open_clip_config.json` says beside the weights, as open_clip's `local-dir:` reads it."""
    size = clip.image_size
    preprocess = {"size": [size, size], "mean": list(clip.mean), "std": list(clip.std)}
    return {
        "model_cfg": dict(clip.config),
        "preprocess_cfg": preprocess | {"resize_mode": clip.resize_mode, "interpolation": clip.interpolation},
    }


def byte_pairs(tokenizer: Any) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Pieces to ids, and merges in order, as transformers' CLIPTokenizer reads them; UserError of other tokenizers."""
    if not isinstance(tokenizer, open_clip.SimpleTokenizer):
        raise UserError(
            "the model has another tokenizer than CLIP's, which transformers' CLIPTokenizer cannot be"
        )
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    pieces = {names.get(piece, piece): index for piece, index in tokenizer.encoder.items()}
    return pieces, sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)


def _told_name(weights: checkpoints.Weights | None) -> str:
    """The model's name as the checkpoint tells it: in its metadata, else by the configuration beside it."""
    if weights is not None:
        if weights.model_name is not None and ":" not in weights.model_name:
            return weights.model_name
        config = weights.path.parent / checkpoints.FINAL_CONFIG
        if config.is_file():
            _refuse_places(config)
        beside = config if weights.style == "open_clip" else weights.path.parent / hugging_face.CONFIG
        if beside.is_file():
            return f"local-dir:{weights.path.parent}"
        if weights.model_name is not None:
            raise UserError(
                f"{weights.path} says that its model is {weights.model_name!r}; a file may name an architecture, and "
                "no place to get one from: give --model yourself, where you trust it"
            )
    fit = None if weights is None else find_fit(weights.state_dict)
    near = f"; its tensors are those of {' or '.join(fit.names)}" if fit is not None and fit.exact else ""
    raise UserError(
        "which model is it? the checkpoint does not say: give --model with one of open_clip's names" + near
    )


def _refuse_places(config: Path) -> None:
    """UserError where a configuration that came with a checkpoint has something fetched from elsewhere."""
    content = read_json(config)
    towers = content.get("model_cfg", {}) if isinstance(content, dict) else {}
    for tower, part in towers.items() if isinstance(towers, dict) else ():
        for name, value in part.items() if isinstance(part, dict) else ():
            if name == "hf_tokenizer_name" and _only_reads_a_folder(part):
                continue
            fetched = name in ("hf_model_name", "hf_tokenizer_name") or (
                name == "timm_model_name" and ("/" in str(value) or ":" in str(value))
            )
            if fetched and value:
                raise UserError(
                    f"{config} has {value!r} fetched ({tower}.{name}); a file may name an architecture, and no place "
                    f"to get one from: give --model local-dir:{config.parent} yourself, where you trust it"
                )


def _only_reads_a_folder(text: Mapping[str, Any]) -> bool:
    """Whether a tokenizer is in a folder of this machine, as a SigLIP's is, and read without further wishes."""
    folder, wishes = text["hf_tokenizer_name"], text.get("tokenizer_kwargs", {})
    return (
        isinstance(folder, str)
        and os.path.isabs(folder)
        and os.path.isdir(folder)
        and isinstance(wishes, dict)
        and set(wishes) <= {"clean"}
    )


def _open_clip_name(name: str) -> str:
    """OpenAI's and PAR's spelling (ViT-L/14@336px) as open_clip's (ViT-L-14-336)."""
    return name if ":" in name else name.replace("/", "-").replace("@336px", "-336")


def _is_hugging_face(name: str) -> bool:
    """Whether the name means a folder of a CLIPModel or SiglipModel."""
    folder = Path(name.removeprefix(LOCAL))
    return (
        name.startswith(LOCAL)
        and not (folder / checkpoints.FINAL_CONFIG).is_file()
        and hugging_face.read_config(folder) is not None
    )


def _find_config(name: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """open_clip's model_cfg; and the preprocessing, where only a translated configuration has it."""
    if _is_hugging_face(name):
        folder = Path(name.removeprefix(LOCAL))
        translated = hugging_face.to_open_clip_config(hugging_face.read_config(folder) or {}, folder)
        return translated["model_cfg"], translated["preprocess_cfg"]
    try:
        config = open_clip.get_model_config(name)
    except Exception as error:
        raise UserError(f"the model {name!r} cannot be found: {first_line(error)}") from None
    if config is None:
        near = [known for known in open_clip.list_models() if name.lower()[:4] in known.lower()][:6]
        ours = sorted(path.stem for path in CONFIG_FOLDER.glob("*.json"))
        raise UserError(
            f"no model is called {name!r}; ours: {', '.join(ours)}; "
            f"open_clip's: {', '.join(near) or 'RN50, ViT-B-32'}, ..."
        )
    return deepcopy(config), None


def _settle_activation(
    name: str, config: dict[str, Any], weights: checkpoints.Weights, asked: Activation | None
) -> None:
    """Decides QuickGELU from what is stated; writes it into `config`; UserError where nothing or a contradiction is.

    A ReLU and its weights would not notice the wrong activation; accuracy would.
    """
    by_name: Activation = "quickgelu" if config.get("quick_gelu") else "gelu"
    if weights.quick_gelu is not None:
        by_file: Activation = "quickgelu" if weights.quick_gelu else "gelu"
        if asked not in (None, by_file):
            raise UserError(f"{weights.path} was trained with {by_file}; --activation {asked} contradicts it")
        if asked is None and by_file != by_name:
            raise UserError(
                f"{weights.path} was trained with {by_file}, but {name} means {by_name}: "
                f"choose the model name that says {by_file}, or --activation {by_file}"
            )
    elif asked is None and by_name == "gelu" and f"{name}-quickgelu" in open_clip.list_models():
        raise UserError(
            f"{weights.path} does not say which activation it was trained with (OpenAI's weights and what was "
            f"fine-tuned from them: quickgelu; most others: gelu): --activation quickgelu or --activation gelu"
        )
    if asked is not None:
        config["quick_gelu"] = asked == "quickgelu"


def _create(
    name: str,
    config: dict[str, Any],
    preprocess: dict[str, Any] | None,
    *,
    seed: int,
    hub_weights: bool,
) -> Any:
    """The module; weights come from the hub or folder for `hf-hub:` and `local-dir:` names, else from `seed`."""
    _prepare_towers(config)
    with torch.random.fork_rng(devices=[]), _quiet(), TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        if preprocess is not None:  # a translated configuration: open_clip reads it as its own
            content = {"model_cfg": config, "preprocess_cfg": preprocess}
            write_json(Path(folder) / checkpoints.FINAL_CONFIG, content)
            name = f"{LOCAL}{folder}"
        try:
            model = open_clip.create_model(
                name,
                load_weights=hub_weights,
                pretrained_text=hub_weights,
                quick_gelu=bool(config.get("quick_gelu")),
            )
        except Exception as error:
            raise UserError(f"the model {name!r} cannot be built: {first_line(error)}") from None
    return model.float().to(memory_format=torch.channels_last)  # as tensor cores and vector units have it


def _prepare_towers(config: Mapping[str, Any]) -> None:
    """What has to be known before towers of timm and of transformers can be built."""
    if config.get("text_cfg", {}).get("hf_model_name"):
        transformers_shim.restore_text_towers()
    tower = config.get("vision_cfg", {}).get("timm_model_name") or ""
    if tower.startswith("cleanerclip_"):
        from trainer.siglip_tower import register_tower  # timm: open_clip has it imported

        register_tower(tower)


def _load_exactly(model: nn.Module, weights: checkpoints.Weights, name: str) -> None:
    found = {key: tensor for key, tensor in weights.state_dict.items() if key not in _JIT_ONLY_KEYS}
    if "positional_embedding" in found and not hasattr(model, "positional_embedding"):
        found = convert_to_custom_text_state_dict(found)
    expected = model.state_dict()
    for single in ("logit_scale", "logit_bias"):
        if single in found and single in expected and found[single].numel() == 1:
            found[single] = found[single].reshape(expected[single].shape)
    shapes = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in found and found[key].shape != expected[key].shape
    ]
    problems = {
        "missing": [key for key in expected if key not in found],
        "unexpected": [key for key in found if key not in expected],
        "of another shape": shapes,
    }
    told = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if keys[3:] else ''})"
        for what, keys in problems.items()
        if keys
    ]
    if told:
        raise UserError(
            f"{weights.path} does not fit {name}: {'; '.join(told)}; nothing was loaded: is it another model?"
        )
    broken = [
        key for key, tensor in found.items() if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if broken:
        raise UserError(
            f"{weights.path} holds NaN or infinity in {', '.join(broken[:3])}: the training that wrote it failed"
        )
    model.load_state_dict(found, strict=True)


@cache
def _named_tokenizer(name: str) -> Any:
    return open_clip.get_tokenizer(name)  # reads 49,000 merges: a third of a second


def _build_tokenizer(name: str, config: Mapping[str, Any]) -> Callable[[list[str]], Tensor]:
    text = config.get("text_cfg", {})
    with _quiet():
        try:
            if _is_hugging_face(name) or os.path.isdir(text.get("hf_tokenizer_name") or ""):
                tokenizer = _translated_tokenizer(text)
            else:
                tokenizer = open_clip.get_tokenizer(name) if ":" in name else _named_tokenizer(name)
        except ModuleNotFoundError as error:
            raise UserError(
                f"the tokenizer of {name!r} needs {error.name}: pip install {error.name}"
            ) from None
        except Exception as error:
            raise UserError(f"the tokenizer of {name!r} cannot be loaded: {first_line(error)}") from None
    size = text.get("vocab_size", OPENAI_VOCABULARY)
    if isinstance(tokenizer, open_clip.SimpleTokenizer) and 514 < size < OPENAI_VOCABULARY:
        tokenizer = reduce_vocabulary(tokenizer, size)
    built: Callable[[list[str]], Tensor] = tokenizer
    return built


def _translated_tokenizer(text: Mapping[str, Any]) -> Any:
    """CLIP's own, or the one in a SigLIP's folder, which transformers reads."""
    if "hf_tokenizer_name" in text:
        return HFTokenizer(
            text["hf_tokenizer_name"],
            context_length=text["context_length"],
            **text.get("tokenizer_kwargs", {}),
        )
    return open_clip.SimpleTokenizer(context_length=text.get("context_length", 77))


def _try_one_image(model: Any, name: str) -> None:
    """UserError where timm's tower takes images of another size than the configuration says; it asserts that late."""
    if not hasattr(model.visual, "trunk"):
        return
    side = _square(model.visual.preprocess_cfg["size"], name)
    training = model.training
    try:
        with torch.no_grad():
            model.eval().encode_image(torch.zeros(1, 3, side, side))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{name} cannot take the {side}x{side} images that it is set to: {first_line(error)}"
        ) from None
    finally:
        model.train(training)


def _square(size: int | tuple[int, int], name: str) -> int:
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise UserError(f"{name} takes {width}x{height} images; only square ones are supported")
    return height


def _three_numbers(given: Any, name: str) -> tuple[float, float, float]:
    if not (
        isinstance(given, list | tuple) and len(given) == 3 and all(isinstance(n, int | float) for n in given)
    ):
        raise UserError(f"{name}: mean and std of the preprocessing must be three numbers, not {given!r}")
    red, green, blue = map(float, given)
    return red, green, blue


def _known(word: str, allowed: tuple[str, ...], name: str) -> Any:
    if word not in allowed:
        raise UserError(f"{name} resizes images by {word!r}; supported are {', '.join(allowed)}")
    return word


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip reports each step of building a model on the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
