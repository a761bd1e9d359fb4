"""Clean accuracy and attack success of the run of examples/defend.py, on the world of examples/augment.py."""

from pathlib import Path

import trainer

clip = trainer.load_model(checkpoint=Path("run"))
data = trainer.load_labelled("world/manifest.json")
trigger = trainer.load_trigger("badnet", image_size=clip.image_size)
result = trainer.evaluate_zero_shot(clip, data, trigger=trigger, target="banana")
for k in (1, 5):
    ba, asr = result.ba[k], result.asr[k]
    print(f"top-{k}: BA {ba.percent:.1f} % of {ba.n}, ASR {asr.percent:.1f} % of {asr.n}")
