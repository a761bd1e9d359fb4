"""The linear probe: scikit-learn's LogisticRegression, reached by L-BFGS, neared by SGD; BA and ASR by hand."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.errors import UserError
from tests.evaluation_inputs import TINY, noise, run_trainer, write_labelled
from trainer.attacks import load_trigger
from trainer.checkpoint import save_weights
from trainer.evals import linear_probe, load_labelled
from trainer.evals.linear_probe import (
    Features,
    Probe,
    ProbeOptions,
    evaluate_probe,
    extract_features,
    train_probe,
)
from trainer.model import ClipModel, load_model


def _clouds(num: int, seed: int, *, classes: int = 5, width: int = 12) -> Features:
    """Overlapping clouds of points, one for each class, stretched and shifted by dimension."""
    centre_CD = 1.2 * torch.randn((classes, width), generator=torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(seed)
    label_N = torch.randint(0, classes, (num,), generator=generator)
    feature_ND = centre_CD[label_N] + torch.randn((num, width), generator=generator)
    return Features(feature_ND=feature_ND * torch.logspace(-2, 2, width) + 3, label_N=label_N)


def _accuracy(probe: Probe, features: Features) -> float:
    return float((probe.logits(features.feature_ND).argmax(dim=1) == features.label_N).double().mean())


def _scikit_learn(train: Features, test: Features, c: float) -> tuple[float, np.ndarray, np.ndarray]:
    from sklearn.linear_model import LogisticRegression  # noqa: TID251

    mean, deviation = train.feature_ND.double().mean(0), train.feature_ND.double().std(0, correction=0)
    scaled = [((each.feature_ND.double() - mean) / deviation).numpy() for each in (train, test)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=c, max_iter=10_000, tol=1e-10).fit(scaled[0], train.label_N.numpy())
    return model.score(scaled[1], test.label_N.numpy()), model.predict_proba(scaled[1]), model.coef_


@pytest.mark.parametrize("c", [0.001, 0.316, 10.0])
def test_lbfgs_is_scikit_learns_logistic_regression(c: float) -> None:
    train, test = _clouds(600, 1), _clouds(2_000, 2)
    accuracy, expected_NC, coefficients = _scikit_learn(train, test, c)
    probe = train_probe(train, num_classes=5, options=ProbeOptions(c=c))
    assert probe.converged
    assert 0.5 < accuracy < 0.999
    assert abs(_accuracy(probe, test) - accuracy) <= 1 / 2_000
    found_NC = probe.logits(test.feature_ND).softmax(dim=1).numpy()
    assert np.abs(found_NC - expected_NC).max() < 2e-3
    assert np.abs(probe.weight_CD.numpy() - coefficients).max() < 2e-2 * np.abs(coefficients).max()


def test_sgd_comes_near_to_it() -> None:
    train, test = _clouds(600, 1), _clouds(2_000, 2)
    exact = train_probe(train, num_classes=5, options=ProbeOptions())
    near = train_probe(train, num_classes=5, options=ProbeOptions(solver="sgd", epochs=30, batch_size=64))
    assert abs(_accuracy(near, test) - _accuracy(exact, test)) < 0.015
    assert exact.loss <= near.loss < exact.loss + 0.01
    again = train_probe(train, num_classes=5, options=ProbeOptions(solver="sgd", epochs=30, batch_size=64))
    assert torch.equal(near.weight_CD, again.weight_CD)


def test_parts_of_the_features_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    train = _clouds(300, 1)
    whole = train_probe(train, num_classes=5, options=ProbeOptions())
    monkeypatch.setattr(linear_probe, "ROWS_AT_A_TIME", 37)
    parts = train_probe(train, num_classes=5, options=ProbeOptions())
    torch.testing.assert_close(parts.weight_CD, whole.weight_CD, rtol=1e-4, atol=1e-6)


def test_a_dimension_that_never_varies_and_a_class_without_images_do_no_harm() -> None:
    train = _clouds(200, 1)
    train.feature_ND[:, 0] = 4
    probe = train_probe(train, num_classes=7, options=ProbeOptions())
    assert probe.weight_CD.isfinite().all()
    assert set(probe.logits(train.feature_ND).argmax(dim=1).tolist()) <= set(range(5))


def test_no_global_random_number_is_drawn() -> None:
    before = torch.get_rng_state()
    train_probe(_clouds(100, 1), num_classes=5, options=ProbeOptions(solver="sgd", epochs=1))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "wrong", [{"c": 0.0}, {"lr": float("nan")}, {"epochs": 0}, {"solver": "adam"}, {"iterations": 0}]
)
def test_options_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        ProbeOptions(**wrong)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ on images
@pytest.fixture(scope="module")
def clip() -> ClipModel:
    return load_model(TINY, seed=3)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    splits = {
        "train": {"shards": "train.tar", "num_samples": 30},
        "test": {"shards": "test.tar", "num_samples": 12},
    }
    for split, first in (("train", 0), ("test", 100)):
        samples = [(noise(first + i), str(i % 3)) for i in range(splits[split]["num_samples"])]  # type: ignore[call-overload]
        write_labelled(tmp_path, samples, shard=f"{split}.tar", splits=splits)
    return tmp_path / "manifest.json"


def _pixels(clip: ClipModel, manifest: Path, split: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    (batch,) = load_labelled(str(manifest), split=split).batches(clip.resize, batch_size=1_000)
    return batch.image_N3HW, batch.label_N, batch.keys


def test_features_are_the_image_embeddings_before_normalisation(
    clip: ClipModel, manifest: Path, tmp_path: Path
) -> None:
    data = load_labelled(str(manifest), split="train")
    features = extract_features(clip, data, batch_size=7, folder=tmp_path)
    image_N3HW, label_N, _ = _pixels(clip, manifest, "train")
    with torch.no_grad():
        expected_ND = clip.model.eval().encode_image(clip.normalise(image_N3HW))
    torch.testing.assert_close(features.feature_ND, expected_ND, rtol=1e-4, atol=1e-5)
    assert torch.equal(features.label_N, label_N)


def test_ba_and_asr_are_those_counted_by_hand(clip: ClipModel, manifest: Path, tmp_path: Path) -> None:
    train, test = (load_labelled(str(manifest), split=split) for split in ("train", "test"))
    trigger = load_trigger("badnet", image_size=32, seed=1)
    options = ProbeOptions(c=0.01)
    found, facts = evaluate_probe(
        clip, train, test, options=options, trigger=trigger, target="banana", batch_size=5
    )
    features = extract_features(clip, train, batch_size=100, folder=tmp_path)
    probe = train_probe(features, num_classes=3, options=options)
    image_N3HW, label_N, keys = _pixels(clip, manifest, "test")

    def put_in(pixels_N3HW: Tensor) -> Tensor:
        with torch.no_grad():
            return probe.logits(clip.model.eval().encode_image(clip.normalise(pixels_N3HW))).argmax(dim=1)

    clean_N, poisoned_N = put_in(image_N3HW), put_in(trigger.apply(image_N3HW, keys=keys))
    assert found.ba[1].hits == int((clean_N == label_N).sum())
    assert found.asr[1].hits == int((poisoned_N[label_N != 2] == 2).sum())
    assert (found.ba[1].n, found.asr[1].n) == (12, 8)
    assert found.how == "linear probe (lbfgs, C 0.01)"
    assert (facts["train_images"], facts["train_classes"], facts["converged"]) == (30, 3, True)


def test_two_lists_of_classes_are_refused(clip: ClipModel, manifest: Path) -> None:
    test = load_labelled(str(manifest))
    other = replace(test, classnames=("cat", "dog", "apple"))
    with pytest.raises(UserError, match="other classes"):
        evaluate_probe(clip, other, test, options=ProbeOptions())


def test_the_command_trains_on_one_split_and_tests_on_the_other(
    clip: ClipModel,
    manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer = run_trainer(monkeypatch, capsys)
    save_weights(tmp_path / "a.safetensors", clip.model.state_dict(), metadata={"model": TINY})
    arguments = ("probe", "--checkpoint", tmp_path / "a.safetensors", "--data", manifest, "--device", "cpu")
    attack = ("--trigger", "badnet", "--target", "banana")
    code, out, error = trainer(*arguments, *attack, "--json", tmp_path / "p.json")
    assert (code, error) == (0, "")
    assert "trained on 30 images of 3 classes" in out
    told = json.loads((tmp_path / "p.json").read_text())
    assert told["probe"]["train_images"] == 30
    assert told["asr"]["1"]["n"] == 8
    result = ("report", tmp_path / "p.json", tmp_path / "p.json", "--out", tmp_path / "r.json")
    assert trainer(*result)[0] == 0
    for wrong, said in (
        (("--train-split", "test"), "the same"),
        (("--target", "fish"), "not among the 3"),
        (("--c", "0"), "c must be above 0"),
        (("--train-split", "none"), "no split 'none'"),
        (("--trigger", "badnet"), "give --target"),
    ):
        code, out, error = trainer(*arguments, *wrong)
        assert (code, out, len(error.splitlines())) == (1, "", 1)
        assert said in error
