"""How fast the trainer prepares samples and steps: per method, one process, the drawn scenes' model.

    OMP_NUM_THREADS=1 python -m benchmarks.train_speed --shards demo/augmented/shards

Prints a Markdown table: samples prepared per second (decode, views, tokens; one thread) and samples trained per
second of CPU time (forward, losses, backward, step), so that other work on the machine weighs little.
"""

import argparse
import itertools
import time

from trainer.batches import BatchOptions, BatchStream
from trainer.data import ShardIndex, find_shards, index_shards
from trainer.defences import DEFENCES, build_defence
from trainer.defences.defence import Setting
from trainer.devices import Precision
from trainer.embedding import encode
from trainer.learner import build_learner, update
from trainer.losses import total_loss
from trainer.model import load_model
from trainer.optim import OptimOptions


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", required=True)
    parser.add_argument("--model", default="cleanerclip-rn-64")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    started = time.process_time()
    index = index_shards(find_shards(options.shards))
    print(f"index: {len(index.keys) / (time.process_time() - started):.0f} samples/s\n")
    print("| method | precision | prepared/s | trained/s |\n| --- | --- | --- | --- |")
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    for method, precision in itertools.product(DEFENCES, precisions):
        found = measure(
            index,
            method=method,
            precision=precision,
            model=options.model,
            batch_size=options.batch_size,
            num_steps=options.steps,
        )
        print(f"| {method} | {precision} | {found['prepared']:.0f} | {found['trained']:.0f} |", flush=True)


def measure(
    index: ShardIndex,
    *,
    method: str,
    precision: Precision,
    model: str,
    batch_size: int = 64,
    num_steps: int = 8,
) -> dict[str, float]:
    """Samples `prepared` and `trained` per second of CPU time, of one method on a model of its own."""
    clip = load_model(model)
    defence = build_defence(DEFENCES[method].options(), Setting(clip=clip, seed=0))
    batching = BatchOptions(batch_size=batch_size, triples=None)
    stream = BatchStream(index, clip, needs=defence.needs, options=batching)
    started = time.process_time()
    batches = list(itertools.islice(stream.epoch(0), num_steps + 1))
    preparing = time.process_time() - started
    learner = build_learner(clip, optim=OptimOptions(), device="cpu", precision=precision)
    clip.model.train()
    for number, batch in enumerate(batches):
        if number == 1:  # the first step allocates
            started = time.process_time()
        with learner.autocast():
            if number == 0:
                defence.prepare(iter(batches))
            pixels = defence.pixels(batch, step=number)
            found = encode(
                clip.model,
                batch,
                normalise=clip.normalise,
                pixels_N3HW=pixels,
                texts=defence.needs.texts,
            )
        loss = total_loss(defence.terms(found), defence.weights)
        update(learner, loss, lr=1e-4, max_gradient_norm=None)
    training = time.process_time() - started
    return {
        "prepared": len(batches) * batch_size / preparing,
        "trained": (len(batches) - 1) * batch_size / training,
    }


if __name__ == "__main__":
    main()
