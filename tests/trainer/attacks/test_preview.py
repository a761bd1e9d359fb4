"""The picture of triggers: everything on it, and the amplified difference is what it says."""

import torch

from trainer.attacks import PRESETS, load_trigger
from trainer.attacks.preview import SIDE, amplify, demo_scene, draw_triggers


def test_amplified_is_grey_plus_five_times_the_difference() -> None:
    clean = torch.tensor([0, 10, 200, 255], dtype=torch.uint8).expand(3, 2, 4)
    triggered = torch.tensor([0, 13, 190, 0], dtype=torch.uint8).expand(3, 2, 4)
    assert amplify(clean, triggered)[0, 0].tolist() == [128, 143, 78, 0]


def test_the_scene_is_always_the_same() -> None:
    scene = demo_scene(64)
    assert (scene.shape, scene.dtype) == ((3, 64, 64), torch.uint8)
    assert torch.equal(scene, demo_scene(64))


def test_every_trigger_has_its_pair() -> None:
    names = list(PRESETS)[:4]
    picture = draw_triggers({name: load_trigger(name, image_size=32) for name in names}, demo_scene(32))
    rows = 2
    assert picture.width >= 3 * 2 * SIDE
    assert picture.height >= rows * SIDE
    empty, shown = (picture.crop((x, 60, x + 2 * SIDE, 60 + SIDE)) for x in (SIDE + 20, 3 * SIDE + 40))
    assert len(empty.crop((0, 0, SIDE - 30, SIDE - 30)).getcolors(10**6) or []) == 1
    assert len(shown.getcolors(10**6) or []) > 1


def test_the_same_triggers_give_the_same_picture() -> None:
    first, second = (draw_triggers({"sig": load_trigger("sig", image_size=48)}, demo_scene(48)) for _ in "12")
    assert first.tobytes() == second.tobytes()
