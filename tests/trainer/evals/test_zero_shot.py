"""Zero-shot BA and ASR: against slow references, and by hand-made models."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.errors import UserError
from tests.evaluation_inputs import NAMES, TEMPLATES, TINY, Sample, noise, write_labelled
from trainer.attacks import load_trigger
from trainer.classes import shared_names
from trainer.embedding import embed_classes, nearest_classes
from trainer.evals import evaluate_zero_shot, load_labelled
from trainer.evals.evaluation import count_top_k
from trainer.evals.labelled import LabelledBatch
from trainer.model import ClipModel, load_model
from trainer.scores import wilson

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def clip() -> ClipModel:
    return load_model(TINY, seed=3)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return partial(write_labelled, tmp_path)


def _slow_ranking(clip: ClipModel, image: torch.Tensor) -> list[int]:
    """Class indices by cosine, nearest first, in plain Python floats."""
    pixels = (image.double() / 255 - torch.tensor(clip.mean).double()[:, None, None]) / torch.tensor(
        clip.std
    )[:, None, None]
    vector = clip.model.encode_image(pixels.float()[None])[0].double()
    vector = (vector / vector.norm()).tolist()
    scores = []
    for name in NAMES:
        total = [0.0] * len(vector)
        for template in TEMPLATES:
            text = clip.model.encode_text(clip.tokenizer([template.format(name)]))[0].double()
            total = [a + b for a, b in zip(total, (text / text.norm()).tolist(), strict=True)]
        length = sum(value**2 for value in total) ** 0.5
        scores.append(sum(a * b / length for a, b in zip(vector, total, strict=True)))
    return sorted(range(len(NAMES)), key=lambda c: -scores[c])


def test_against_a_slow_reference(clip: ClipModel, write: Write) -> None:
    samples = [(noise(i), str(i % 3)) for i in range(24)]
    trigger = load_trigger("badnet", image_size=32, seed=1)
    data = load_labelled(str(write(samples)))
    result = evaluate_zero_shot(clip, data, trigger=trigger, target="banana", batch_size=7)
    clip.model.eval()
    hits, attacks, attacks_all = {1: 0, 3: 0}, {1: 0, 3: 0}, {1: 0, 3: 0}
    with torch.no_grad():
        for i, (image, _) in enumerate(samples):
            pixels = clip.resize(image)
            ranks, poisoned = (
                _slow_ranking(clip, pixels),
                _slow_ranking(clip, trigger.apply(pixels[None], keys=[f"{i:04d}"])[0]),
            )
            for k in (1, 3):
                hits[k] += i % 3 in ranks[:k]
                attacks_all[k] += 2 in poisoned[:k]
                attacks[k] += i % 3 != 2 and 2 in poisoned[:k]
    assert {k: share.hits for k, share in result.ba.items()} == hits
    assert {k: share.hits for k, share in result.asr.items()} == attacks
    assert {k: share.hits for k, share in result.asr_with_target.items()} == attacks_all
    assert (result.ba[1].n, result.asr[1].n, result.asr_with_target[1].n) == (24, 16, 24)


def test_class_embeddings_are_unit_means_of_unit_prompts(clip: ClipModel) -> None:
    class_CD = embed_classes(clip, NAMES, TEMPLATES)
    assert torch.allclose(class_CD.norm(dim=-1), torch.ones(3))
    with torch.no_grad():
        text_TD = clip.model.encode_text(clip.tokenizer([t.format("dog") for t in TEMPLATES])).double()
    mean_D = (text_TD / text_TD.norm(dim=-1, keepdim=True)).mean(0)
    assert torch.allclose(class_CD[1].double(), mean_D / mean_D.norm(), atol=1e-6)


def test_the_batch_size_changes_nothing(clip: ClipModel, write: Write) -> None:
    data = load_labelled(str(write([(noise(i), str(i % 3)) for i in range(20)])))
    trigger = load_trigger("badnet-public", image_size=32)
    results = [
        evaluate_zero_shot(clip, data, trigger=trigger, target="cat", batch_size=b) for b in (1, 6, 100)
    ]
    assert results[0].percentages() == results[1].percentages() == results[2].percentages()


def test_top_k_is_given_for_as_many_classes_as_there_are(clip: ClipModel, write: Write) -> None:
    few = evaluate_zero_shot(clip, load_labelled(str(write([(noise(i), "0") for i in range(3)]))))
    assert list(few.ba) == [1, 3]
    assert few.ba[3].percent == 100
    names = tuple(f"thing {i}" for i in range(12))
    many = evaluate_zero_shot(
        clip, load_labelled(str(write([(noise(i), "0") for i in range(3)], classnames=names)))
    )
    assert list(many.ba) == [1, 3, 5, 10]


def test_without_a_trigger_there_is_no_asr(clip: ClipModel, write: Write) -> None:
    result = evaluate_zero_shot(clip, load_labelled(str(write([(noise(0), "1")]))))
    assert result.asr == {}
    assert list(result.percentages()) == ["ba1", "ba3"]


def test_the_json_says_what_was_measured(clip: ClipModel, write: Write) -> None:
    trigger = load_trigger("badnet", image_size=32)
    data = load_labelled(str(write([(noise(i), str(i % 3)) for i in range(6)])))
    result = evaluate_zero_shot(clip, data, trigger=trigger, target="dog")
    told = json.loads(json.dumps(result.to_json()))
    assert told["weights_sha256"] == clip.sha256
    assert told["trigger_sha256"] == trigger.sha256
    assert told["asr1"] == told["asr"]["1"]["percent"]
    assert told["asr"]["1"]["n"] == 4
    assert told["asr"]["1"]["low"] <= told["asr1"] <= told["asr"]["1"]["high"]


def test_the_model_is_left_in_its_mode(clip: ClipModel, write: Write) -> None:
    data = load_labelled(str(write([(noise(i), "1") for i in range(4)])))
    clip.model.train()
    before = {name: value.clone() for name, value in clip.model.state_dict().items()}
    evaluate_zero_shot(clip, data)
    assert clip.model.training
    assert all(torch.equal(value, before[name]) for name, value in clip.model.state_dict().items())


def test_too_little_memory_is_told(clip: ClipModel, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhaust(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    data = load_labelled(str(write([(noise(i), "1") for i in range(4)])))
    monkeypatch.setattr(clip.model, "encode_image", exhaust)
    with pytest.raises(UserError, match="not enough memory for 4 images at a time: lower --batch-size"):
        evaluate_zero_shot(clip, data)


def test_broken_weights_are_told(clip: ClipModel, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_labelled(str(write([(noise(i), "1") for i in range(4)])))
    monkeypatch.setattr(
        clip.model, "encode_image", lambda images: torch.full((len(images), 32), float("nan"))
    )
    with pytest.raises(UserError, match="embeddings that are no numbers"):
        evaluate_zero_shot(clip, data)


def test_a_collapsed_model_is_not_called_accurate(clip: ClipModel) -> None:
    same_CD = torch.ones(5, 32) / 32**0.5
    nearest = nearest_classes(clip, torch.zeros((2, 3, 32, 32), dtype=torch.uint8), same_CD, k=3)
    assert nearest.tolist() == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 10, 0.0, 27.75), (10, 10, 72.25, 100.0), (8, 10, 49.02, 94.33), (1, 1000, 0.02, 0.56)],
)
def test_wilson_intervals_are_those_of_the_textbooks(hits: int, n: int, low: float, high: float) -> None:
    share = wilson(hits, n)
    assert share.low == pytest.approx(low, abs=0.01)
    assert share.high == pytest.approx(high, abs=0.01)
    assert share.percent == 100 * hits / n


def test_top_k_counts_never_fall_with_k() -> None:
    hit_NK = torch.rand((50, 10), generator=torch.Generator().manual_seed(0)) < 0.1
    counts = [share.hits for share in count_top_k(hit_NK).values()]
    assert counts == [sum(any(row[:k]) for row in hit_NK.tolist()) for k in (1, 3, 5, 10)]


def test_broken_and_unlabelled_images_are_counted(clip: ClipModel, write: Write) -> None:
    samples: list[Sample] = [
        (noise(0), "0"),
        (b"no image", "1"),
        (noise(1), None),
        (None, "1"),
        (noise(2), "2"),
    ]
    data = load_labelled(str(write(samples)))
    result = evaluate_zero_shot(clip, data)
    assert result.ba[1].n == 2
    assert result.num_left_out == 3
    assert len(data.faults) == 3


def test_images_of_any_size_are_resized(clip: ClipModel, write: Write) -> None:
    data = load_labelled(str(write([(noise(0, 40), "0"), (noise(1, 20), "1")])))
    assert evaluate_zero_shot(clip, data).ba[1].n == 2


def test_a_target_that_is_no_class_is_told(clip: ClipModel, write: Write) -> None:
    data = load_labelled(str(write([(noise(0), "0")])))
    with pytest.raises(UserError, match=r"'Banana'.*banana"):
        evaluate_zero_shot(clip, data, trigger=load_trigger("badnet", image_size=32), target="Banana")
    with pytest.raises(UserError, match="--target"):
        evaluate_zero_shot(clip, data, trigger=load_trigger("badnet", image_size=32))


def test_data_of_the_target_class_alone_cannot_show_an_attack(clip: ClipModel, write: Write) -> None:
    data = load_labelled(str(write([(noise(0), "2")])))
    with pytest.raises(UserError, match="target class"):
        evaluate_zero_shot(clip, data, trigger=load_trigger("badnet", image_size=32), target="banana")


@pytest.mark.parametrize("samples", [[], [(b"broken", "0")]])
def test_empty_data_is_told(clip: ClipModel, write: Write, samples: list[Sample]) -> None:
    with pytest.raises(UserError, match="no labelled image"):
        evaluate_zero_shot(clip, load_labelled(str(write(samples))))


def test_a_name_of_several_classes_is_no_target(clip: ClipModel, write: Write) -> None:
    data = load_labelled(str(write([(noise(i), str(i)) for i in range(3)])), classnames=["cat", "dog", "cat"])
    assert shared_names(data.classnames) == ("cat",)
    result = evaluate_zero_shot(clip, data)
    assert result.classes[2].hits == 0
    with pytest.raises(UserError, match="'cat' is the name of several classes"):
        evaluate_zero_shot(clip, data, target="cat")


def test_classes_are_counted_towards_the_target(clip: ClipModel, write: Write) -> None:
    samples = [(noise(i), str(i % 3)) for i in range(30)]
    trigger = load_trigger("badnet", image_size=32, seed=1)
    seen: list[tuple[int, int, int]] = []

    def observe(
        batch: LabelledBatch, clean_NK: Tensor, images: Tensor | None, poisoned_NK: Tensor | None
    ) -> None:
        assert poisoned_NK is not None
        assert images is not None
        assert torch.equal(images, trigger.apply(batch.image_N3HW, keys=batch.keys))
        seen.extend(
            zip(batch.label_N.tolist(), clean_NK[:, 0].tolist(), poisoned_NK[:, 0].tolist(), strict=True)
        )

    data = load_labelled(str(write(samples)))
    result = evaluate_zero_shot(clip, data, trigger=trigger, target="dog", batch_size=8, observe=observe)
    for label, score in enumerate(result.classes):
        mine = [(clean, poisoned) for found, clean, poisoned in seen if found == label]
        assert (score.name, score.n) == (NAMES[label], len(mine))
        assert score.hits == sum(clean == label for clean, _ in mine)
        assert score.to_target == sum(clean == 1 for clean, _ in mine)
        assert score.to_target_triggered == sum(poisoned == 1 for _, poisoned in mine)
    others = [score for score in result.classes if score.name != "dog"]
    assert result.clean_as_target is not None
    assert result.clean_as_target.hits == sum(score.to_target or 0 for score in others)
    assert result.asr[1].hits == sum(score.to_target_triggered or 0 for score in others)
    assert sum(score.hits for score in result.classes) == result.ba[1].hits


def test_hashes_tell_other_images_and_other_prompts_apart(clip: ClipModel, write: Write) -> None:
    def hashes(samples: list[Sample], templates: tuple[str, ...] = TEMPLATES) -> tuple[str, str]:
        result = evaluate_zero_shot(
            clip, load_labelled(str(write(samples)), templates=templates), batch_size=2
        )
        return result.images_sha256, result.prompts_sha256

    samples: list[Sample] = [(noise(i), "0") for i in range(3)]
    first = hashes(samples)
    assert hashes(samples) == first
    assert hashes([*samples[:2], (noise(9), "0")])[0] != first[0]
    assert hashes([*samples[:2], (noise(2), "1")])[0] != first[0]
    assert hashes(samples, ("a {}",)) == (first[0], hashes(samples, ("a {}",))[1]) != first
