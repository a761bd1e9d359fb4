"""How fast the trainer prepares samples and steps: per method, one process, the drawn scenes' model.

    OMP_NUM_THREADS=1 python benchmarks/train_speed.py --shards demo/augmented/shards

Prints a Markdown table: samples prepared per second (decode, views, tokens; one thread) and samples trained per
second of CPU time (forward, losses, backward, step), so that other work on the machine weighs little.
"""

import argparse
import itertools
import time

from trainer.methods import MethodOptions, build_method, encode

from trainer.batches import BatchOptions, BatchStream
from trainer.data import find_shards, index_shards
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
    for name, precision in itertools.product(("ft", "cleanclip", "cleanerclip"), ("fp32", "bf16")):
        clip = load_model(options.model)
        method = build_method(MethodOptions(method=name))
        batching = BatchOptions(batch_size=options.batch_size, triples=None)
        stream = BatchStream(index, clip, needs=method.needs, options=batching)
        started = time.process_time()
        batches = list(itertools.islice(stream.epoch(0), options.steps + 1))
        prepared = len(batches) * options.batch_size / (time.process_time() - started)
        learner = build_learner(clip, optim=OptimOptions(), device="cpu", precision=precision)
        clip.model.train()
        for number, batch in enumerate(batches):
            if number == 1:  # the first step allocates
                started = time.process_time()
            with learner.autocast():
                features = encode(clip.model, batch, normalise=clip.normalise)
            update(
                learner, total_loss(method.terms(features), method.weights), lr=1e-4, max_gradient_norm=None
            )
        trained = (len(batches) - 1) * options.batch_size / (time.process_time() - started)
        print(f"| {name} | {precision} | {prepared:.0f} | {trained:.0f} |", flush=True)


if __name__ == "__main__":
    main()
