"""The backdoored model that comes with the package, fine-tuned on the shards of examples/augment.py: run/."""

from pathlib import Path

import trainer

victim = Path(trainer.__file__).parent / "demo_victim" / "victim.safetensors"
summary = trainer.defend(
    trainer.ModelChoice(checkpoint=victim),
    trainer.Source(shards="cf/shards"),
    trainer.choose_options("cleanerclip", {}),
    batches=trainer.BatchOptions(batch_size=16, triples=None),
    optim=trainer.OptimOptions(lr=1e-3),
    options=trainer.TrainOptions(epochs=1, device="cpu"),
    out=Path("run"),
)
print(summary["steps"], summary["weights_sha256"])
