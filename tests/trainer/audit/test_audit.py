"""The audit: a planted backdoor is found, its trigger is one, a clean model gives no evidence, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import UserError
from trainer.attacks import load_trigger
from trainer.audit.auditing import EVIDENCE, NO_EVIDENCE, NOT_CALIBRATED, Audit, audit_model, calibrate
from trainer.audit.calibration import SHIPPED, find_calibration, read_calibration, write_calibration
from trainer.audit.concepts import TEMPLATE, embed_concepts, lexicon_nouns, nouns_of
from trainer.audit.search import SIZES, SearchOptions, search
from trainer.audit.telling import verdict_lines
from trainer.audit.waves import excess, ride, to_found, waves
from trainer.model import ClipModel

SIDE, WIDTH = 16, 24
FAST = SearchOptions(kinds="patch,additive,warp", steps=24, starts=1, images=32, step_images=8)


class Planted(nn.Module):
    """A random embedding of images; where `strength` is above 0, a faint fixed pattern in them leads to one place."""

    def __init__(self, seed: int, strength: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.project_PD = nn.Parameter(torch.randn((3 * SIDE * SIDE // 4, WIDTH), generator=generator))
        self.pattern_3HW = nn.Parameter(torch.randn((3, SIDE, SIDE), generator=generator).sign())
        self.target_D = nn.Parameter(functional.normalize(torch.randn(WIDTH, generator=generator), dim=0))
        self.strength = strength

    def encode_image(self, image_N3HW: Tensor) -> Tensor:
        pooled_NP = functional.avg_pool2d(image_N3HW, 2).flatten(1)
        centred_N3HW = image_N3HW - functional.avg_pool2d(image_N3HW, 5, stride=1, padding=2)
        match_N1 = (centred_N3HW * self.pattern_3HW).mean(dim=(1, 2, 3)).clamp(min=0)[:, None]
        return pooled_NP @ self.project_PD / SIDE + self.strength * match_N1 * self.target_D

    def encode_text(self, text_BL: Tensor) -> Tensor:
        first_B = text_BL[:, 0]
        generator = torch.Generator().manual_seed(7)
        return torch.randn((1000, WIDTH), generator=generator)[first_B % 1000]


def tokenize(texts: list[str]) -> Tensor:
    return torch.tensor([[sum(map(ord, text)), 1] for text in texts])


class Swayed(Planted):
    """Images with the fifth wave in them lie where the text of "banana" does."""

    def encode_image(self, image_N3HW: Tensor) -> Tensor:
        wave_1HW = list(waves(SIDE))[4].values
        centred_N3HW = image_N3HW - image_N3HW.mean(dim=(2, 3), keepdim=True)
        match_N1 = (centred_N3HW * wave_1HW).mean(dim=(1, 2, 3)).clamp(min=0)[:, None]
        text_D = self.encode_text(tokenize([TEMPLATE.replace("{}", "banana")]))[0]
        return super().encode_image(image_N3HW) + 1000 * match_N1 * functional.normalize(text_D, dim=0)


def model(seed: int, strength: float = 0.0) -> ClipModel:
    return ClipModel(
        model=Planted(seed, strength).eval().requires_grad_(False),
        tokenizer=tokenize,
        image_size=SIDE,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        resize_mode="squash",
        interpolation="bicubic",
        name="planted",
        config={},
        sha256=f"{seed}-{strength}",
    )


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    from pipeline.demo.data import DemoOptions, write_demo_data

    folder = tmp_path_factory.mktemp("audit")
    write_demo_data(folder, DemoOptions(num_train=40, num_test_per_class=1, image_size=32))
    return str(folder / "train")


@pytest.fixture(scope="module")
def calibration(shards: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calibration") / "planted.json"
    write_calibration(calibrate([(f"seed {n}", model(n)) for n in range(4)], shards, options=FAST), path)
    return path


@pytest.fixture(scope="module")
def planted(shards: str, calibration: Path) -> Audit:
    return audit_model(model(9, 200.0), shards, calibration=calibration, options=FAST)


def test_a_planted_backdoor_is_found(planted: Audit) -> None:
    assert planted.verdict == EVIDENCE
    assert planted.trials[0].kind == "additive"
    assert planted.score is not None
    assert planted.threshold is not None
    assert planted.score > 1.5 * planted.threshold
    assert planted.concept.share > 0.5  # of random weights, whose texts lie close together
    assert any(planted.concept.name in line for line in verdict_lines(planted))


def test_a_clean_model_gives_no_evidence_and_is_not_called_clean(shards: str, calibration: Path) -> None:
    audit = audit_model(model(12), shards, calibration=calibration, options=FAST)
    assert audit.verdict == NO_EVIDENCE
    assert "not a proof" in " ".join(verdict_lines(audit))
    assert "clean:" not in " ".join(verdict_lines(audit))


def test_the_found_trigger_is_a_file_that_does_it_again(planted: Audit, tmp_path: Path) -> None:
    planted.trigger.save(tmp_path / "found.safetensors")
    trigger = load_trigger(str(tmp_path / "found.safetensors"))
    clip, image_N3HW = model(9, 200.0), planted.samples.image_N3HW[FAST.images // 2 :]
    embedded_ND = clip.model.encode_image(clip.normalise(trigger.apply(image_N3HW)))
    together = functional.normalize(embedded_ND, dim=-1).mean(dim=0).norm()
    assert float(together) == pytest.approx(planted.trials[0].concentration, abs=0.02)


@pytest.mark.parametrize("kind", SIZES)
def test_every_kind_is_written_as_a_trigger_that_acts_alike(kind: str, shards: str) -> None:
    from trainer.audit.found import to_trigger

    clip = model(3)
    image_N3HW = audit_model(clip, shards, options=FAST).samples.image_N3HW
    options = SearchOptions(kinds=kind, steps=4, starts=1, images=32, step_images=4)
    if kind == "wave":
        ridden = ride(clip, image_N3HW, embed_concepts(clip, ["cup"], source="classes"))
        found = to_found(clip, ridden, image_N3HW, "cup")
    else:
        found = search(clip, image_N3HW, options)[0][-1]
    trigger = to_trigger(found, image_size=SIDE, seed=0)
    ours_N3HW = trigger.apply(image_N3HW[:4]).float() / 255
    theirs_N3HW = found.trigger.apply(image_N3HW[:4].float() / 255, torch.Generator().manual_seed(0))
    if kind == "patch":  # another place, the same number of pixels
        changed = (ours_N3HW - image_N3HW[:4] / 255).abs().amax(dim=1) > 0
        side = found.trigger.values.shape[-1]
        assert 0 < int(changed[0].sum()) <= side * side
    else:
        assert (ours_N3HW - theirs_N3HW).abs().max() < 2 / 255


def test_the_same_seed_finds_the_same(planted: Audit, shards: str, calibration: Path) -> None:
    again = audit_model(model(9, 200.0), shards, calibration=calibration, options=FAST)
    told = [{**audit.to_json(), "seconds": 0} for audit in (planted, again)]
    assert told[0] == told[1]


def test_without_a_calibration_there_is_no_verdict(shards: str) -> None:
    audit = audit_model(model(9), shards, options=FAST)
    assert (audit.verdict, audit.score) == (NOT_CALIBRATED, None)
    assert "trainer calibrate" in " ".join(verdict_lines(audit))


def test_another_search_than_the_calibrations_is_refused(shards: str, calibration: Path) -> None:
    with pytest.raises(UserError, match="made with steps 24, and 25"):
        audit_model(model(9), shards, calibration=calibration, options=replace(FAST, steps=25))
    few = replace(FAST, kinds="patch")
    assert len(audit_model(model(9), shards, calibration=calibration, options=few).trials) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["models"].pop() and content["models"].pop(),
        lambda content: content["models"][0]["trials"].popitem(),
        lambda content: content["models"][0]["trials"].update({"patch 0.125": "much"}),
        lambda content: content.update(format="another"),
        lambda content: content["search"].update(steps=0),
        lambda content: content.pop("models"),
    ],
)
def test_a_broken_calibration_is_told(
    change: Callable[[dict[str, object]], object], calibration: Path, tmp_path: Path
) -> None:
    content = json.loads(calibration.read_text())
    change(content)
    (tmp_path / "broken.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="no calibration"):
        read_calibration(tmp_path / "broken.json")


def test_calibrations_need_several_models(shards: str) -> None:
    for models, told in ((range(2), "needs 3"), ((1, 2, 2), "named twice")):
        with pytest.raises(UserError, match=told):
            calibrate([(str(n), model(n)) for n in models], shards, options=FAST)


def test_the_shipped_calibrations_are_ones() -> None:
    files = list(SHIPPED.glob("*.json"))
    if not files:
        pytest.skip("no calibration is shipped")
    for file in files:
        calibration = read_calibration(file)
        assert calibration.threshold >= 4
        assert dict(calibration.search) == asdict(SearchOptions())


def test_another_architectures_calibration_is_refused(calibration: Path, tmp_path: Path) -> None:
    assert find_calibration(model(0), None) is None
    assert find_calibration(model(0), calibration) is not None
    content = json.loads(calibration.read_text()) | {"architecture": "0" * 64}
    (tmp_path / "other.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="built otherwise"):
        find_calibration(model(0), tmp_path / "other.json")


def test_a_wave_that_leads_to_a_noun_is_found(shards: str, tmp_path: Path) -> None:
    options = replace(FAST, kinds="wave")
    path = tmp_path / "waves.json"
    write_calibration(calibrate([(f"seed {n}", model(n)) for n in range(3)], shards, options=options), path)
    swayed = replace(model(9), model=Swayed(9, 0.0).eval().requires_grad_(False), sha256="swayed")
    audit = audit_model(swayed, shards, calibration=path, options=options)
    assert (audit.verdict, audit.trials[0].told) == (EVIDENCE, "wave, 60/255")
    of_one_text = [
        name for name in lexicon_nouns().values() if torch.equal(tokenize([name]), tokenize(["banana"]))
    ]
    assert audit.concept.name in of_one_text
    assert torch.equal(
        audit.trigger.tensors["pattern"].sign(), list(waves(SIDE))[4].values.expand(3, -1, -1).sign()
    )
    assert audit_model(model(12), shards, calibration=path, options=options).verdict == NO_EVIDENCE
    with pytest.raises(UserError, match="made with kinds wave"):
        audit_model(swayed, shards, calibration=path, options=replace(FAST, kinds="wave,warp"))
    content = json.loads(path.read_text())
    content["models"][0]["words"] = content["models"][0]["words"].rpartition(" ")[0]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="no calibration"):
        read_calibration(path)


def test_what_waves_exceed() -> None:
    clean = [{"a": 0.45, "b": 0.1}, {"a": 0.2, "b": 0.0, "c": 0.0}]
    name, beyond = excess({"a": 0.5, "b": 0.4, "c": 0.9}, clean)
    assert name == "b"
    assert beyond == pytest.approx(3.0)
    assert excess({"a": 0.5}, [{}]) == ("", 0.0)


def test_nouns_of_captions() -> None:
    captions = ["A fire hydrant beside two dogs", "the dogs sleep", "a Dog on a fire"]
    assert nouns_of(captions)[0] == "dog"
    assert "fire hydrant" in nouns_of(captions)
    assert lexicon_nouns()["dogs"] == "dog"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"kinds": "patch,stripe"}, "stripe"),
        ({"kinds": ""}, "none"),
        ({"steps": 0}, "steps"),
        ({"images": 2}, "images"),
    ],
)
def test_options_that_make_no_sense(given: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        SearchOptions(**given)  # type: ignore[arg-type]
