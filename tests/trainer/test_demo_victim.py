"""The committed victim: small, whole, what its description says, and really carrying the backdoor."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.demo.data import TEMPLATES, DemoOptions, write_demo_data
from pipeline.demo.drawings import NOUNS
from tests.places import ROOT
from trainer.attacks import load_trigger
from trainer.evals import evaluate_zero_shot, load_labelled
from trainer.model import load_model

FOLDER = ROOT / "trainer" / "demo_victim"


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    return json.loads((FOLDER / "victim.json").read_text())


def test_is_small_and_its_hashes_are_those_told(told: dict[str, Any]) -> None:
    victim = FOLDER / "victim.safetensors"
    assert victim.stat().st_size <= 10_000_000
    assert hashlib.sha256(victim.read_bytes()).hexdigest() == told["file_sha256"]
    assert load_model(checkpoint=victim).sha256 == told["weights_sha256"]


def test_the_trigger_is_the_named_one(told: dict[str, Any]) -> None:
    trigger = load_trigger(str(FOLDER / "trigger.safetensors"), image_size=64)
    assert trigger.sha256 == told["trigger_sha256"]
    assert trigger.sha256 == load_trigger("badnet", image_size=64, seed=0).sha256


def test_it_knows_the_nouns_and_obeys_the_trigger(told: dict[str, Any], tmp_path: Path) -> None:
    manifest = write_demo_data(
        tmp_path, DemoOptions(seed=told["measured"]["seed"], num_train=1, num_test_per_class=6)
    )
    clip = load_model(checkpoint=FOLDER / "victim.safetensors")
    trigger = load_trigger(str(FOLDER / "trigger.safetensors"), image_size=64)
    result = evaluate_zero_shot(clip, load_labelled(str(manifest)), trigger=trigger, target="banana")
    assert result.ba[1].high >= told["measured"]["ba1"] >= 80
    assert result.asr[1].high >= told["measured"]["asr1"] >= 85
    assert result.asr[1].percent >= 80


def test_the_demo_world_still_has_the_victims_words(told: dict[str, Any]) -> None:
    assert told["classnames"] == list(NOUNS)
    assert told["templates"] == list(TEMPLATES)
