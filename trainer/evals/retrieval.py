"""Retrieval: R@1, R@5 and R@10 from image to text and from text to image, by cosine.

Image to text: one of the image's own captions (Flickr8k has five) is among the first k of all captions. Text to
image: the caption's own image is among the first k of all images. Equal similarities rank in the set's order, so
that a collapsed model gets chance and no more.
"""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UserError
from trainer.embedding import embed_images, evaluation_mode
from trainer.evals.captioned import CaptionedImages
from trainer.model import ClipModel, encode_text
from trainer.scores import Share, wilson

RECALL_K: Final = (1, 5, 10)
ROWS_AT_A_TIME: Final = 512
"""Rows of the similarity matrix that are held at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """What one evaluation of retrieval found. A k above the number of candidates is left out."""

    data: str
    num_images: int
    num_captions: int
    num_left_out: int
    """Samples that could not be read, or have no caption."""
    samples_sha256: str
    """Over key, pixels and captions of every sample, in order."""
    model: str
    weights_sha256: str
    image_to_text: dict[int, Share]
    text_to_image: dict[int, Share]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values: `i2t_r1 ... t2i_r10` in percent, and each share with hits, n and interval."""
        sides = {"image_to_text": self.image_to_text, "text_to_image": self.text_to_image}
        flat = {
            f"{short}_r{k}": share.percent
            for short, shares in (("i2t", self.image_to_text), ("t2i", self.text_to_image))
            for k, share in shares.items()
        }
        facts = {name: getattr(self, name) for name in self.__slots__ if name not in sides}
        nested = {
            name: {str(k): asdict(share) for k, share in shares.items()} for name, shares in sides.items()
        }
        return flat | facts | nested


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """A captioned set as unit vectors."""

    image_ND: Tensor
    text_MD: Tensor
    owner_M: Tensor
    """int64: which image a caption belongs to."""
    sha256: str
    """Over keys, pixels and captions."""


def evaluate_retrieval(clip: ClipModel, data: CaptionedImages, *, batch_size: int = 256) -> Retrieval:
    """R@k of the model on the data; the model is left in the mode it was in. UserError where nothing is usable.

    Held in memory: one embedding for each image and caption, and ROWS_AT_A_TIME rows of similarities.
    """
    with evaluation_mode(clip):
        found = embed_captioned(clip, data, batch_size=batch_size)
    vectors = (found.image_ND, found.text_MD, found.owner_M)
    return Retrieval(
        data=data.name,
        num_images=len(found.image_ND),
        num_captions=len(found.text_MD),
        num_left_out=len(data.faults),
        samples_sha256=found.sha256,
        model=clip.name,
        weights_sha256=clip.sha256,
        image_to_text=_recalls(image_to_text_ranks(*vectors), len(found.text_MD)),
        text_to_image=_recalls(text_to_image_ranks(*vectors), len(found.image_ND)),
    )


@torch.no_grad()
def embed_captioned(clip: ClipModel, data: CaptionedImages, *, batch_size: int) -> Embedded:
    """Every image and caption as a unit vector; UserError where nothing is usable, or the weights give no numbers."""
    images: list[Tensor] = []
    texts: list[Tensor] = []
    owners: list[int] = []
    num_images = 0
    digest = hashlib.sha256()
    device = next(clip.model.parameters()).device
    for batch in data.batches(clip.resize, batch_size=batch_size):
        images.append(functional.normalize(embed_images(clip, batch.image_N3HW), dim=-1))
        captions = [caption for several in batch.captions for caption in several]
        for start in range(0, len(captions), batch_size):
            tokens = clip.tokenizer(captions[start : start + batch_size]).to(device)
            texts.append(functional.normalize(encode_text(clip.model, tokens).float(), dim=-1))
        for key, image_3HW, several in zip(batch.keys, batch.image_N3HW, batch.captions, strict=True):
            owners += [num_images] * len(several)
            num_images += 1
            digest.update(f"{key} {several!r}\n".encode())
            digest.update(image_3HW.contiguous().reshape(-1).numpy().data)
    if not images:
        told = f"; the first problem: {data.faults[0]}" if data.faults else ""
        raise UserError(f"{data.name} has no image with a caption{told}")
    text_MD = torch.cat(texts)
    if not text_MD.isfinite().all():
        raise UserError(f"{clip.name} gives embeddings that are no numbers: its weights are broken")
    return Embedded(
        image_ND=torch.cat(images), text_MD=text_MD, owner_M=torch.tensor(owners), sha256=digest.hexdigest()
    )


def image_to_text_ranks(image_ND: Tensor, text_MD: Tensor, owner_M: Tensor) -> Tensor:
    """The rank, from 0, of each image's best own caption among all captions: int64 (N,).

    `owner_M` says which image a caption belongs to; every image owns at least one.
    """
    ranks = []
    owner_M = owner_M.to(image_ND.device)
    for start in range(0, len(image_ND), ROWS_AT_A_TIME):
        similarity_RM = image_ND[start : start + ROWS_AT_A_TIME] @ text_MD.T
        rows = torch.arange(start, start + len(similarity_RM), device=image_ND.device)
        own_RM = owner_M[None, :] == rows[:, None]
        best_R = similarity_RM.masked_fill(~own_RM, -torch.inf).argmax(dim=1)  # the first among equals
        ranks.append(_ranks(similarity_RM, best_R))
    return torch.cat(ranks)


def text_to_image_ranks(image_ND: Tensor, text_MD: Tensor, owner_M: Tensor) -> Tensor:
    """The rank, from 0, of each caption's own image among all images: int64 (M,)."""
    owner_M = owner_M.to(image_ND.device)
    return torch.cat(
        [
            _ranks(
                text_MD[start : start + ROWS_AT_A_TIME] @ image_ND.T, owner_M[start : start + ROWS_AT_A_TIME]
            )
            for start in range(0, len(text_MD), ROWS_AT_A_TIME)
        ]
    )


def _ranks(similarity_RC: Tensor, column_R: Tensor) -> Tensor:
    """How many columns come before each row's own: those more similar, and equal ones that stand before it."""
    own_R1 = similarity_RC.gather(1, column_R[:, None])
    before_RC = torch.arange(similarity_RC.shape[1], device=similarity_RC.device) < column_R[:, None]
    ahead_RC = (similarity_RC > own_R1) | ((similarity_RC == own_R1) & before_RC)
    return ahead_RC.sum(dim=1).cpu()


def _recalls(rank_N: Tensor, num_candidates: int) -> dict[int, Share]:
    return {k: wilson(int((rank_N < k).sum()), len(rank_N)) for k in RECALL_K if k <= num_candidates}
