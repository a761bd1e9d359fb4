"""Signs of a backdoor in the model that comes with the package, on the shards of examples/augment.py; patches alone."""

from pathlib import Path

import trainer

clip = trainer.load_model(checkpoint=Path(trainer.__file__).parent / "demo_victim" / "victim.safetensors")
found = trainer.audit_model(clip, "cf/shards", options=trainer.SearchOptions(kinds="patch"))
print(found.verdict, found.score, found.concept.name)
found.trigger.save(Path("found.safetensors"))
