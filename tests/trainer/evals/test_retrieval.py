"""Retrieval: R@k against slow references, several captions for an image, ties, and what bad data is told."""

import json
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UserError
from tests.evaluation_inputs import TINY, noise, png, run_trainer, write_tar
from tests.places import REAL_DATA, ROOT
from trainer.checkpoint import save_weights
from trainer.evals import retrieval
from trainer.evals.captioned import load_captioned
from trainer.evals.retrieval import evaluate_retrieval, image_to_text_ranks, text_to_image_ranks
from trainer.model import ClipModel, load_model

MANIFESTS = ROOT / "data_manifests"
WORDS = ("red", "dog", "runs", "over", "grass", "child", "two", "blue", "boat")


@pytest.fixture(scope="module")
def clip() -> ClipModel:
    return load_model(TINY, seed=3)


def _captions(number: int) -> list[str]:
    rng = random.Random(number)
    return [" ".join(rng.choices(WORDS, k=4)) for _ in range(1 + number % 5)]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    members = []
    for i in range(12):
        texts: dict[str, object] = {"captions": _captions(i)}
        members += [(f"{i:03d}.png", png(noise(i))), (f"{i:03d}.txt", _captions(i)[0].encode())]
        if i % 2:  # the others have one caption, in key.txt
            members.append((f"{i:03d}.json", json.dumps(texts).encode()))
    write_tar(tmp_path / "00000.tar", members)
    return tmp_path / "00000.tar"


def _slow_recall(similarity: list[list[float]], own: list[set[int]], k: int) -> int:
    """How many rows have one of their own columns among the first k, by sorting each row."""
    hits = 0
    for row, wanted in zip(similarity, own, strict=True):
        ranking = sorted(range(len(row)), key=lambda column: (-row[column], column))
        hits += bool(wanted & set(ranking[:k]))
    return hits


def test_against_a_slow_reference(clip: ClipModel, shard: Path) -> None:
    found = evaluate_retrieval(clip, load_captioned(str(shard)), batch_size=5)
    texts = [_captions(i) if i % 2 else _captions(i)[:1] for i in range(12)]
    clip.model.eval()
    with torch.no_grad():
        images = [clip.model.encode_image(clip.normalise(clip.resize(noise(i))[None]))[0] for i in range(12)]
        captions = [
            clip.model.encode_text(clip.tokenizer([text]))[0] for several in texts for text in several
        ]
    owner = [i for i, several in enumerate(texts) for _ in several]
    similarity = [[float(functional.cosine_similarity(a, b, dim=0)) for b in captions] for a in images]
    turned = [list(column) for column in zip(*similarity, strict=True)]
    own = [{c for c, image in enumerate(owner) if image == i} for i in range(12)]
    for k in (1, 5, 10):
        assert found.image_to_text[k].hits == _slow_recall(similarity, own, k)
        assert found.text_to_image[k].hits == _slow_recall(turned, [{image} for image in owner], k)
    assert (found.num_images, found.num_captions) == (12, len(owner))
    assert (found.image_to_text[1].n, found.text_to_image[1].n) == (12, len(owner))


def _random_set(num: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    owner_M = torch.arange(num).repeat_interleave(3)
    image_ND = torch.randint(-2, 3, (num, 4), generator=generator).float()  # many equal similarities
    text_MD = torch.randint(-2, 3, (3 * num, 4), generator=generator).float()
    return image_ND, text_MD, owner_M


@pytest.mark.parametrize("rows", [4, 1_000])
def test_ranks_are_those_of_sorting_in_parts_and_with_ties(
    monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(retrieval, "ROWS_AT_A_TIME", rows)
    image_ND, text_MD, owner_M = _random_set(15, 1)
    similarity_NM = (image_ND @ text_MD.T).tolist()
    i2t, t2i = (
        image_to_text_ranks(image_ND, text_MD, owner_M),
        text_to_image_ranks(image_ND, text_MD, owner_M),
    )
    for i in range(15):
        ranking = sorted(range(45), key=lambda m: (-similarity_NM[i][m], m))
        assert i2t[i] == min(ranking.index(m) for m in range(3 * i, 3 * i + 3))
    for m in range(45):
        ranking = sorted(range(15), key=lambda i: (-similarity_NM[i][m], i))
        assert t2i[m] == ranking.index(m // 3)


def test_a_collapsed_model_gets_chance() -> None:
    owner_M = torch.arange(20)
    ranks = text_to_image_ranks(torch.ones(20, 3), torch.ones(20, 3), owner_M)
    assert ranks.tolist() == list(range(20))


def test_a_perfect_model_finds_everything() -> None:
    image_ND = torch.eye(12)
    owner_M = torch.arange(12).repeat_interleave(5)
    text_MD = image_ND[owner_M]
    assert image_to_text_ranks(image_ND, text_MD, owner_M).max() == 0
    assert text_to_image_ranks(image_ND, text_MD, owner_M).max() == 0


def test_what_cannot_be_used_is_named(clip: ClipModel, tmp_path: Path) -> None:
    good = png(noise(0))
    members = [("a.png", good), ("a.txt", b"a dog"), ("b.png", good), ("c.txt", b"no image"), ("d.png", b"x")]
    members += [("d.txt", b"broken"), ("e.png", good), ("e.json", b'{"captions": ["", 3, "two dogs"]}')]
    write_tar(tmp_path / "0.tar", members)
    data = load_captioned(str(tmp_path / "0.tar"))
    found = evaluate_retrieval(clip, data)
    assert (found.num_images, found.num_captions, found.num_left_out) == (2, 2, 3)
    assert [fault.split(": ")[1] for fault in data.faults] == ["b", "c", "d"]
    write_tar(tmp_path / "0.tar", members[2:4])
    with pytest.raises(UserError, match=r"no image with a caption; the first problem: 0\.tar: b: no caption"):
        evaluate_retrieval(clip, load_captioned(str(tmp_path / "0.tar")))


def test_the_command_writes_what_it_prints(
    clip: ClipModel,
    shard: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer = run_trainer(monkeypatch, capsys)
    save_weights(tmp_path / "a.safetensors", clip.model.state_dict(), metadata={"model": TINY})
    manifest = {"name": "toy", "splits": {"test": {"shards": shard.name, "num_samples": 12}}}
    (tmp_path / "m.json").write_text(json.dumps(manifest))
    arguments = ("retrieve", "--checkpoint", tmp_path / "a.safetensors", "--data", tmp_path / "m.json")
    code, out, _ = trainer(*arguments, "--json", tmp_path / "r.json")
    told = json.loads((tmp_path / "r.json").read_text())
    assert code == 0
    assert told["i2t_r1"] == told["image_to_text"]["1"]["percent"]
    assert f"{told['t2i_r10']:.1f}" in out
    assert told["weights_sha256"] == clip.sha256
    manifest["splits"]["test"]["num_samples"] = 13  # type: ignore[index]
    (tmp_path / "m.json").write_text(json.dumps(manifest))
    for wrong, said in (
        ((), "has 13 samples"),
        (("--split", "x"), "no split 'x'"),
        (("--data", "cifar10"), "parquet"),
    ):
        code, out, error = trainer(*arguments, *wrong)
        assert (code, out, len(error.splitlines())) == (1, "", 1)
        assert said in error


@pytest.mark.data
def test_flickr8k_has_five_captions_for_an_image() -> None:
    if not (REAL_DATA / "flickr8k_wds").is_dir():
        pytest.skip(f"the real data is not here: {REAL_DATA / 'flickr8k_wds'}")
    data = load_captioned(str(MANIFESTS / "flickr8k.json"), root=REAL_DATA)
    batches = list(data.batches(lambda _: torch.zeros((3, 1, 1), dtype=torch.uint8), batch_size=400))
    assert sum(len(batch.keys) for batch in batches) == 1_000
    assert {len(several) for batch in batches for several in batch.captions} == {5}
