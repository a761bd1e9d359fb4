"""Images and captions to unit embeddings: of a batch, for training, and of data and class names, for evaluating.

Stands between `model` and everything that compares embeddings: the defences, the evaluations, BadCLIP's optimiser.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import UserError
from trainer.batches import Batch
from trainer.model import ClipModel, encode_text
from trainer.ranks import Ranks

Normalise = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """Unit embeddings of one step: B pairs, T triples among or beside them, X images that a defence added."""

    image_BD: Tensor
    text_BD: Tensor | None
    """None where no text was asked for."""
    image_view_BD: Tensor | None = None
    text_view_BD: Tensor | None = None
    triple_image_TD: Tensor | None = None
    positive_TD: Tensor | None = None
    negative_TD: Tensor | None = None
    added_XD: Tensor | None = None
    scale: Tensor
    """exp(logit_scale), a scalar."""
    bias: Tensor | None = None
    """logit_bias, a scalar, of a model that was trained with the sigmoid loss."""

    @property
    def texts(self) -> Tensor:
        """`text_BD` of a defence that needs texts."""
        assert self.text_BD is not None
        return self.text_BD


def encode(
    model: Any, batch: Batch, *, normalise: Normalise, pixels_N3HW: Tensor | None = None, texts: bool = True
) -> Embeddings:
    """Embeds a batch: images, views and added images in one forward (one batch statistic), captions likewise.

    `pixels_N3HW` stands for the batch's images, and behind them for those a defence adds. The sub-captions have a
    forward of their own, so that a caption's embedding does not depend on whether triples are present.
    """
    num_images, num_pairs = len(batch.image_M3HW), batch.num_pairs
    pixels = batch.image_M3HW if pixels_N3HW is None else pixels_N3HW
    num_added = len(pixels) - num_images
    views = batch.image_view_B3HW
    if views is not None and pixels_N3HW is not None:
        views = views.float() / 255
    images = pixels if views is None else torch.cat([pixels, views])
    image_ND = functional.normalize(model.encode_image(normalise(images)).float(), dim=-1)
    found = {
        "image_BD": image_ND[:num_pairs],
        "added_XD": image_ND[num_images : num_images + num_added] if num_added else None,
        "image_view_BD": None if views is None else image_ND[num_images + num_added :],
    }
    text_BD = text_view_BD = None
    if texts:
        captions = [batch.text_BL] if batch.text_view_BL is None else [batch.text_BL, batch.text_view_BL]
        text_ND = functional.normalize(encode_text(model, torch.cat(captions)).float(), dim=-1)
        text_BD, text_view_BD = text_ND[:num_pairs], text_ND[num_pairs:] if len(captions) > 1 else None
    positive_TD = negative_TD = triple_image_TD = None
    if batch.triple_rows_T is not None and batch.positive_TL is not None and batch.negative_TL is not None:
        both = torch.cat([batch.positive_TL, batch.negative_TL])
        positive_TD, negative_TD = functional.normalize(encode_text(model, both).float(), dim=-1).chunk(2)
        triple_image_TD = image_ND[batch.triple_rows_T]
    return Embeddings(
        **found,  # type: ignore[arg-type]
        text_BD=text_BD,
        text_view_BD=text_view_BD,
        triple_image_TD=triple_image_TD,
        positive_TD=positive_TD,
        negative_TD=negative_TD,
        **_scale_and_bias(model, used=texts),
    )


def _scale_and_bias(model: Any, *, used: bool) -> dict[str, Any]:
    """What turns similarities into logits; outside the gradient where no loss is over logits."""
    scale, bias = model.logit_scale.exp(), getattr(model, "logit_bias", None)
    if used:
        return {"scale": scale, "bias": bias}
    return {"scale": scale.detach(), "bias": None if bias is None else bias.detach()}


class Towers(nn.Module):
    """`encode` as the forward of a module, which is what DDP can stand around."""

    def __init__(self, clip: ClipModel) -> None:
        super().__init__()
        self.model, self.normalise = clip.model, clip.normalise

    def forward(self, batch: Batch, *, pixels_N3HW: Tensor | None = None, texts: bool = True) -> Embeddings:
        """The batch's embeddings."""
        return encode(self.model, batch, normalise=self.normalise, pixels_N3HW=pixels_N3HW, texts=texts)


def gather(found: Embeddings, ranks: Ranks) -> Embeddings:
    """The embeddings of all processes as one process with the whole batch would have them, gradients included."""
    if ranks.world == 1:
        return found
    none_0D = found.image_BD[:0]
    rows = {name: getattr(found, name) for name in Embeddings.__slots__ if name.endswith("D")}
    gathered = ranks.gather_all({name: none_0D if part is None else part for name, part in rows.items()})
    present: dict[str, Any] = {name: part if len(part) else None for name, part in gathered.items()}
    return replace(found, **present)


class Teacher:
    """The model as it came, frozen and in evaluation mode: what a defence compares the one in training with."""

    def __init__(self, clip: ClipModel, *, remember: bool) -> None:
        """`remember`: an image's pixels never change, so that its embedding is computed once and kept."""
        self.clip = clip
        self.model = copy.deepcopy(clip.model).eval().requires_grad_(False)
        self.remembered: dict[str, Tensor] | None = {} if remember else None

    @torch.no_grad()
    def embed_images(self, batch: Batch, pixels_N3HW: Tensor | None = None) -> Tensor:
        """Unit embeddings (B, D) of the batch's images, or of other pixels in their stead."""
        known = self.remembered
        if known is not None and all(key in known for key in batch.keys):
            return torch.stack([known[key] for key in batch.keys])
        pixels = batch.image_M3HW if pixels_N3HW is None else pixels_N3HW
        image_BD = self.embed_pixels(pixels[: batch.num_pairs])
        if known is not None:
            known.update(zip(batch.keys, image_BD, strict=True))
        return image_BD

    @torch.no_grad()
    def embed_pixels(self, pixels_N3HW: Tensor) -> Tensor:
        """Unit embeddings (N, D) of images (N, 3, H, W), bytes or floats in [0, 1]."""
        self.model.to(pixels_N3HW.device)
        image_ND = self.model.encode_image(self.clip.normalise(pixels_N3HW))
        return functional.normalize(image_ND.float(), dim=-1)

    @torch.no_grad()
    def embed_texts(self, batch: Batch) -> Tensor:
        """Unit embeddings (B, D) of the batch's captions."""
        self.model.to(batch.text_BL.device)
        return functional.normalize(encode_text(self.model, batch.text_BL).float(), dim=-1)


# ------------------------------------------------------------------------------------------------------ for evaluating
@torch.no_grad()
def embed_classes(clip: ClipModel, classnames: Sequence[str], templates: Sequence[str]) -> Tensor:
    """One unit vector per class: float32 (classes, D), the normalised mean of its normalised prompt embeddings."""
    device = next(clip.model.parameters()).device
    rows = []
    for name in classnames:
        tokens = clip.tokenizer([template.replace("{}", name) for template in templates])
        text_TD = functional.normalize(encode_text(clip.model, tokens.to(device)).float(), dim=-1)
        rows.append(functional.normalize(text_TD.mean(dim=0), dim=-1))
    return torch.stack(rows)


@torch.no_grad()
def embed_images(clip: ClipModel, image_N3HW: Tensor) -> Tensor:
    """uint8 images as float32 embeddings (N, D), not normalised, on the model's device.

    UserError where weights are broken (NaN), and where the device has not enough memory for so many.
    """
    device = next(clip.model.parameters()).device
    try:
        image_ND: Tensor = clip.model.encode_image(clip.normalise(image_N3HW.to(device))).float()
    except torch.OutOfMemoryError:
        raise UserError(
            f"the device has not enough memory for {len(image_N3HW)} images at a time: lower --batch-size"
        ) from None
    if not image_ND.isfinite().all():
        raise UserError(f"{clip.name} gives embeddings that are no numbers: its weights are broken")
    return image_ND


def nearest_classes(clip: ClipModel, image_N3HW: Tensor, class_CD: Tensor, *, k: int) -> Tensor:
    """The k nearest classes of each uint8 image, nearest first: int64 (N, k), on the CPU.

    Equal similarities rank in the order of the classes, so that a collapsed model does not look accurate.
    """
    similarity_NC = functional.normalize(embed_images(clip, image_N3HW), dim=-1) @ class_CD.T
    return similarity_NC.argsort(dim=-1, descending=True, stable=True)[:, :k].cpu()


@contextmanager
def evaluation_mode(clip: ClipModel) -> Iterator[None]:
    """The model in evaluation mode within the block, and as it was after it."""
    training = [module for module in clip.model.modules() if module.training]  # batch norm may be frozen
    clip.model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
