"""Counterfactual accuracy: counted per kind, against a model that knows and one that does not."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.errors import UserError
from tests.square_shards import Members, WriteShards
from trainer.data import find_shards, index_shards
from trainer.evals import counterfactuals
from trainer.evals.counterfactuals import evaluate_counterfactuals
from trainer.model import ClipModel, load_model


@pytest.fixture(scope="module")
def clip() -> ClipModel:
    return load_model("cleanerclip-tiny-32", seed=1)


def test_every_negative_counts_for_its_kind(
    clip: ClipModel, write_shards: WriteShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text of a banana lies away from every image, any other on it."""
    told = replace(clip, tokenizer=lambda texts: torch.tensor([["banana" in text] for text in texts]))
    image_1D = torch.nn.functional.normalize(torch.ones(1, 8), dim=-1)
    monkeypatch.setattr(counterfactuals, "embed_images", lambda _, pixels: image_1D.expand(len(pixels), -1))
    monkeypatch.setattr(
        counterfactuals, "encode_text", lambda _, banana_N1: torch.where(banana_N1, -image_1D, image_1D)
    )
    index = index_shards(find_shards(str(write_shards(10))))
    found = evaluate_counterfactuals(told, index, batch_size=3)
    assert found.samples == 10
    assert (found.kinds["object"].hits, found.kinds["object"].n) == (10, 10)
    assert (found.kinds["attribute"].hits, found.kinds["attribute"].n) == (0, 10)  # a tie is no hit
    assert found.mean == 50


def test_a_limit_and_a_broken_image(clip: ClipModel, write_shards: WriteShards) -> None:
    def change(number: int, members: Members) -> Members:
        return members | {"jpg": b"no image"} if number == 0 else members

    index = index_shards(find_shards(str(write_shards(10, change=change))))
    found = evaluate_counterfactuals(clip, index, limit=4, batch_size=3)
    assert (found.samples, found.num_left_out) == (3, 1)
    assert all(0 <= share.percent <= 100 for share in found.kinds.values())


def test_shards_without_sub_captions_are_refused(
    clip: ClipModel, write_shards: WriteShards, tmp_path: Path
) -> None:
    plain = write_shards(4, change=lambda _, members: {k: v for k, v in members.items() if k != "json"})
    with pytest.raises(UserError, match="pipeline augment-captions"):
        evaluate_counterfactuals(clip, index_shards(find_shards(str(plain))))
