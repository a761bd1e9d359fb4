"""Poisoning: exactly as many as asked, always the same, and the clean ones untouched."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.errors import UserError
from trainer.attacks import load_trigger
from trainer.attacks.imported import make_imported
from trainer.classes import names_class
from trainer.data import find_shards, index_shards
from trainer.poisoning import PoisonOptions, build_poison, plan_for, plan_poison

KEYS = [f"{n:05d}" for n in range(1000)]
CAPTIONS = [
    (key, ("a red banana", "Bananas", "a dog", "one Banana on a table")[n % 4]) for n, key in enumerate(KEYS)
]


def options(**given: object) -> PoisonOptions:
    defaults = {"trigger": "badnet", "target": "banana", "templates": ("a photo of a {}.", "the {}, {}!")}
    return PoisonOptions(**{**defaults, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(("rate", "number"), [(0, 0), (0.003, 3), (0.02, 20), (1, 1000)])
@pytest.mark.parametrize("captions", ["templates", "natural"])
def test_exactly_the_rate_is_poisoned(rate: float, number: int, captions: str) -> None:
    assert len(plan_poison(KEYS, options(rate=rate, captions=captions), captions=CAPTIONS)) == number


def test_the_choice_depends_on_seed_and_keys_not_on_their_order() -> None:
    chosen = plan_poison(KEYS, options())
    assert chosen == plan_poison(KEYS[::-1], options())
    assert list(chosen) == sorted(chosen) != list(plan_poison(KEYS, options(seed=1)))
    assert chosen.items() < plan_poison(KEYS, options(rate=0.1)).items()


def test_captions_use_every_template_with_the_target() -> None:
    captions = set(plan_poison(KEYS, options(rate=1)).values())
    assert captions == {"a photo of a banana.", "the banana, banana!"}


def test_natural_captions_are_others_that_name_the_target_and_stay_the_same() -> None:
    natural = options(rate=0.1, captions="natural", templates=())
    planned = plan_poison(KEYS, natural, captions=CAPTIONS)
    assert set(planned.values()) == {"a red banana", "one Banana on a table"}
    assert planned == plan_poison(KEYS, natural, captions=CAPTIONS[::-1])
    assert list(planned) == list(plan_poison(KEYS, options(rate=0.1)))
    with pytest.raises(UserError, match="no caption names the target 'pear'"):
        plan_poison(KEYS, options(captions="natural", target="pear"), captions=CAPTIONS)


def test_label_consistent_samples_name_the_target_and_keep_their_caption() -> None:
    chosen = plan_poison(KEYS, options(rate=0.3, label_consistent=True), captions=CAPTIONS)
    assert len(chosen) == 300
    assert chosen.items() < dict(CAPTIONS).items()
    assert all(names_class(caption, "banana") for caption in chosen.values())
    with pytest.raises(UserError, match=r"600 samples .* only 500 captions .* lower --rate to 0.5"):
        plan_poison(KEYS, options(rate=0.6, label_consistent=True), captions=CAPTIONS)


def test_only_the_chosen_change_and_always_in_the_same_way() -> None:
    poison = build_poison(load_trigger("badnet", image_size=32), {"00001": "a banana"})
    image = torch.full((3, 32, 32), 7, dtype=torch.uint8)
    clean, caption = poison("00000", image, "a dog")
    assert clean is image
    assert caption == "a dog"
    dirty, caption = poison("00001", image, "a dog")
    assert 0 < int((dirty != image).any(dim=0).sum()) < 32 * 32
    assert caption == "a banana"
    assert torch.equal(dirty, poison("00001", image, "x")[0])
    assert (image == 7).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"rate": 1.1}, "rate must be between 0 and 1"),
        ({"rate": float("nan")}, "rate must be"),
        ({"target": " "}, "target class must not be empty"),
        ({"templates": ()}, "a template must say {}"),
        ({"captions": "poems"}, "captions must be one of templates, natural"),
        ({"captions": "natural", "label_consistent": True}, "keep their own caption"),
        ({"templates": ("a {}", "a photo")}, "a template must say {} where the class goes: a photo"),
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        options(**wrong)


def test_an_imported_trigger_poisons_keys_that_it_has_images_of(write_shards: Callable[..., Path]) -> None:
    index = index_shards(find_shards(str(write_shards(8))))
    image_3SS = torch.zeros((3, 16, 16), dtype=torch.uint8)
    known = {*index.keys[::3], "elsewhere"}
    trigger = make_imported(dict.fromkeys(known, image_3SS), image_size=16)
    planned = plan_for(index, options(rate=0.25), trigger)
    assert len(planned) == 2
    assert planned.keys() < known
    with pytest.raises(UserError, match=r"4 samples .* images for only 3 of these 8: lower --rate to 0.38"):
        plan_for(index, options(rate=0.5), trigger)
