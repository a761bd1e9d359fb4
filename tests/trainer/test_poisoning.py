"""Poisoning: exactly as many as asked, always the same, and the clean ones untouched."""

import pytest
import torch

from pipeline.errors import UserError
from trainer.attacks import load_trigger
from trainer.poisoning import PoisonOptions, build_poison, choose_poisoned, poisoned_caption

KEYS = [f"{n:05d}" for n in range(1000)]


def options(**given: object) -> PoisonOptions:
    defaults = {"trigger": "badnet", "target": "banana", "templates": ("a photo of a {}.", "the {}, {}!")}
    return PoisonOptions(**{**defaults, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(("rate", "number"), [(0, 0), (0.003, 3), (0.02, 20), (1, 1000)])
def test_exactly_the_rate_is_poisoned(rate: float, number: int) -> None:
    assert len(set(choose_poisoned(KEYS, options(rate=rate)))) == number


def test_the_choice_depends_on_seed_and_keys_not_on_their_order() -> None:
    chosen = choose_poisoned(KEYS, options())
    assert chosen == choose_poisoned(KEYS[::-1], options()) != choose_poisoned(KEYS, options(seed=1))
    more = choose_poisoned(KEYS, options(rate=0.1))
    assert set(chosen) < set(more)


def test_captions_use_every_template_with_the_target() -> None:
    captions = {poisoned_caption(key, options()) for key in KEYS}
    assert captions == {"a photo of a banana.", "the banana, banana!"}


def test_only_the_chosen_change_and_always_in_the_same_way() -> None:
    poison = build_poison(load_trigger("badnet", image_size=32), ["00001"], options())
    image = torch.full((3, 32, 32), 7, dtype=torch.uint8)
    clean, caption = poison("00000", image, "a dog")
    assert clean is image
    assert caption == "a dog"
    dirty, caption = poison("00001", image, "a dog")
    assert 0 < int((dirty != image).any(dim=0).sum()) < 32 * 32
    assert "banana" in caption
    assert torch.equal(dirty, poison("00001", image, "x")[0])
    assert (image == 7).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"rate": 1.1}, "rate must be between 0 and 1"),
        ({"rate": float("nan")}, "rate must be"),
        ({"target": " "}, "target class must not be empty"),
        ({"templates": ()}, "a template must say {}"),
        ({"templates": ("a {}", "a photo")}, "a template must say {} where the class goes: a photo"),
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        options(**wrong)
