"""Triggers on a device that is not the CPU, without one: torch's fake tensors follow the devices and compute nothing.

What mixes devices fails as it would on a GPU. The pretended device is registered for a whole process, so the triggers
are tried in one of their own.
"""

import subprocess
import sys
from pathlib import Path

import torch

from trainer.attacks import PRESETS
from trainer.attacks.badclip import draw_patch, make_badclip
from trainer.attacks.ssba import apply_ssba, draw_weights
from trainer.attacks.trigger import Trigger

PROGRAM = """
import sys
from dataclasses import replace
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend
from trainer.attacks import load_trigger

_setup_privateuseone_for_python_backend("elsewhere")
FakeTensorMode.may_turn_const = lambda self, tensor: False  # or it computes small constants on the device

def leave_behind(trigger, images, tokens):
    return images + torch.zeros(3, 1, 1)

broken = replace(load_trigger("filter", image_size=64), preset="broken", apply_to=leave_behind)
for trigger in (broken, *(load_trigger(name, image_size=64) for name in sys.argv[1:])):
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            tensors = {name: mode.from_tensor(tensor) for name, tensor in trigger.tensors.items()}
            images = torch.empty((2, 3, 64, 64), dtype=torch.uint8, device="elsewhere")
            result = replace(trigger, tensors=tensors).apply(images, keys=["a", "b"])
        print(trigger.preset, result.device.type)
    except RuntimeError as error:
        print(trigger.preset, "mixes devices" if "at least two devices" in str(error) else repr(error))
"""


def test_triggers_leave_nothing_on_the_cpu(tmp_path: Path) -> None:
    learned = (
        make_badclip(draw_patch(5, 0), image_size=64, seed=0, settings={}),
        Trigger(
            kind="ssba",
            preset="ssba",
            image_size=64,
            seed=0,
            settings={"psnr": 30.0},
            tensors=draw_weights(bits=8, channels=8, seed=0) | {"secret": torch.zeros(8)},
            apply_to=apply_ssba,
        ),
    )
    for trigger in learned:
        trigger.save(tmp_path / f"{trigger.kind}.safetensors")
    names = [*PRESETS, *(str(tmp_path / f"{trigger.kind}.safetensors") for trigger in learned)]
    found = subprocess.run([sys.executable, "-c", PROGRAM, *names], capture_output=True, text=True)
    expected = ["broken mixes devices", *(f"{name} elsewhere" for name in (*PRESETS, "badclip", "ssba"))]
    assert (found.stdout.splitlines(), found.returncode) == (expected, 0), found.stderr
