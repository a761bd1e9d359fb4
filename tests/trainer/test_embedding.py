"""Embeddings: each tower runs once for a batch, and a teacher once for an image."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.batches import BatchOptions, BatchStream, Needs
from trainer.data import find_shards, index_shards
from trainer.embedding import Teacher, encode
from trainer.model import ClipModel, load_model


@pytest.fixture
def clip() -> ClipModel:
    return load_model("cleanerclip-tiny-32")


@pytest.fixture
def stream(clip: ClipModel, write_shards: Callable[..., Path]) -> BatchStream:
    index = index_shards(find_shards(str(write_shards(8))))
    return BatchStream(index, clip, needs=Needs(views=True), options=BatchOptions(batch_size=4))


def counted(model: Any) -> Counter[str]:
    """Counts the forwards of both towers from now on, by name."""
    runs = Counter[str]()
    for name in ("visual", "transformer"):
        getattr(model, name).register_forward_hook(lambda *_, name=name: runs.update([name]))
    return runs


def test_images_and_views_are_one_forward_and_captions_another(clip: ClipModel, stream: BatchStream) -> None:
    runs = counted(clip.model)
    found = encode(clip.model, next(stream.epoch(0)), normalise=clip.normalise)
    assert found.image_view_BD is not None
    assert found.text_view_BD is not None
    assert runs == {"visual": 1, "transformer": 1}


@pytest.mark.parametrize(("remember", "forwards"), [(True, 2), (False, 4)])
def test_a_teacher_embeds_an_image_that_stays_the_same_once(
    clip: ClipModel, stream: BatchStream, remember: bool, forwards: int
) -> None:
    teacher = Teacher(clip, remember=remember)
    runs = counted(teacher.model)
    batches = list(stream.epoch(0))
    first, again = ([teacher.embed_images(batch) for batch in batches] for _ in range(2))
    assert all(map(torch.equal, first, again))
    assert runs["visual"] == forwards
