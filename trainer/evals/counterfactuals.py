"""Counterfactual accuracy: how often an image is nearer to its positive sub-caption than to a negative, per kind.

What `pipeline augment-captions` makes is the test: a positive that is true of the image, and negatives in which one
attribute, relation or noun is another. A model that looks only for nouns fails the attributes and relations.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UserError
from trainer.data import RawSample, ShardIndex, Skipped, read_shard
from trainer.embedding import embed_images, evaluation_mode
from trainer.images import BrokenImage, decode
from trainer.model import ClipModel, encode_text
from trainer.records import clean_text, has_triple, positive_of
from trainer.scores import Share, wilson


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterfactualAccuracy:
    """Of the negatives of each kind, the share that is farther from the image than its positive."""

    kinds: dict[str, Share]
    """attribute, relation, object: those that the shards have."""
    samples: int
    num_left_out: int
    """Samples whose image cannot be decoded."""

    @property
    def mean(self) -> float:
        """The mean of the kinds, in percent."""
        return sum(share.percent for share in self.kinds.values()) / len(self.kinds)


def evaluate_counterfactuals(
    clip: ClipModel, index: ShardIndex, *, limit: int | None = None, batch_size: int = 64
) -> CounterfactualAccuracy:
    """The accuracy on the samples of the shards that have sub-captions, the first `limit` of them.

    Raises:
        UserError: No sample has a positive and a negative sub-caption.
    """
    hits: dict[str, int] = defaultdict(int)
    totals: dict[str, int] = defaultdict(int)
    samples = left_out = 0
    with evaluation_mode(clip):
        for batch in _batches(index, limit, batch_size):
            found = [(sample, pixels) for sample in batch if (pixels := _pixels(clip, sample)) is not None]
            left_out += len(batch) - len(found)
            samples += len(found)
            if not found:
                continue
            image_ND = functional.normalize(
                embed_images(clip, torch.stack([pixels for _, pixels in found])), dim=-1
            )
            for (sample, _), image_D in zip(found, image_ND, strict=True):
                for kind, nearer in _compare(clip, sample.record, image_D):
                    totals[kind] += 1
                    hits[kind] += nearer
    if not totals:
        raise UserError(
            "no sample has a positive and a negative sub-caption: make the shards with `pipeline augment-captions`"
        )
    kinds = {kind: wilson(hits[kind], totals[kind]) for kind in sorted(totals)}
    return CounterfactualAccuracy(kinds=kinds, samples=samples, num_left_out=left_out)


def _batches(index: ShardIndex, limit: int | None, size: int) -> Iterator[list[RawSample]]:
    batch: list[RawSample] = []
    seen = 0
    for shard, images in zip(index.shards, index.image_shards, strict=True):
        for sample in read_shard(shard, skipped=Skipped(), images=images):
            if not has_triple(sample.record) or seen == limit:
                continue
            seen += 1
            batch.append(sample)
            if len(batch) == size:
                yield batch
                batch = []
    if batch:
        yield batch


def _pixels(clip: ClipModel, sample: RawSample) -> Tensor | None:
    try:
        return clip.resize(decode(sample.image))
    except BrokenImage:
        return None


@torch.no_grad()
def _compare(clip: ClipModel, record: dict[str, Any], image_D: Tensor) -> Iterator[tuple[str, bool]]:
    """For each negative its kind, and whether the positive is nearer to the image."""
    negatives = [
        (str(negative.get("kind", "unknown")), text)
        for negative in record["negatives"]
        if isinstance(negative, dict) and (text := clean_text(negative.get("text")))
    ]
    tokens = clip.tokenizer([positive_of(record), *(text for _, text in negatives)])
    text_ND = functional.normalize(encode_text(clip.model, tokens.to(image_D.device)).float(), dim=-1)
    similar_N = text_ND @ image_D
    for (kind, _), similarity in zip(negatives, similar_N[1:], strict=True):
        yield kind, bool(similar_N[0] > similarity)
