"""Where a training step's time goes, and how fast `cleanclip` is from files: against CleanCLIP's loop said again.

    OMP_NUM_THREADS=1 python -m benchmarks.train_loop [--samples 320] [--rounds 2] [--rates]

The loop said again does what CleanCLIP's does: each image decoded by Pillow, resized and normalised by open_clip's own
transform, its AutoAugment view likewise, captions as tokens before the first epoch, one process, float32, 77 tokens,
torch's plain AdamW, the weights saved at an epoch's end. Both sides have the same files, model, batch and threads, and
take turns. Samples per second of processor time, since wall time is of whatever else the machine does.

`--rates` compares an epoch from files with a worker beside, with all that the trainer does (metrics, a state and
weights at its end), with forward, backward and optimiser alone on resident tensors, step by step in turns. What
computes counts by the training process's time on a processor, what waits (for data, for the disk) by wall time. The
worker is some ten times as fast as the steps are.
"""

import argparse
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.nn import functional

from benchmarks.trainer_data import write_photographs
from trainer.batches import BatchOptions, BatchStream, Needs
from trainer.data import SampleReader, ShardIndex, find_shards, index_shards
from trainer.defences import DEFENCES, build_defence
from trainer.defences.defence import Setting
from trainer.images import augmented_view, decode
from trainer.learner import Learner, build_learner
from trainer.log import MetricsFile
from trainer.model import load_model
from trainer.optim import OptimOptions, clamp_logit_scale, learning_rate, set_learning_rate
from trainer.records import views_of
from trainer.run_folder import Run, save_run
from trainer.train import compute_loss

BATCH = 64
OPTIM = OptimOptions(lr=1e-4, warmup=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--samples", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", default="cleanerclip-rn-64")
    parser.add_argument("--size", type=int, nargs=2, default=(96, 72))
    parser.add_argument("--rates", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        shards = write_photographs(Path(folder) / "shards", options.samples, size=tuple(options.size))
        index = index_shards(find_shards(shards))
        ours = Ours(index, options.model, Path(folder))
        num = options.samples // BATCH * BATCH
        if options.rates:
            print_rates(ours, num=num, rounds=options.rounds)
            return
        theirs = Theirs(index, options.model, Path(folder))
        sides: dict[str, Callable[[], dict[str, float]]] = {
            "from files": ours.epoch,
            "on resident tensors": ours.resident,
            "from files, a worker beside it, wall time": ours.epoch_with_a_worker,
            "CleanCLIP's loop said again": theirs.epoch,
        }
        found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        for _ in range(options.rounds + 1):  # the first one warms up
            for name, side in sides.items():
                found[name].append(side())
        print("| cleanclip | samples/s of CPU | data | forward | backward | optimiser | other |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for name, rounds in found.items():
            parts = {part: median(each[part] for each in rounds[1:]) for part in rounds[0]}
            total = sum(parts.values())
            shares = " | ".join(f"{100 * parts[part] / total:.1f} %" for part in parts)
            print(f"| {name} | {num / total:.1f} | {shares} |", flush=True)
        triple = ours.cost_of_triples()
        print(
            f"\nA triple costs {triple:.2f} of a pair's step; 3,000 beside 500,000 pairs: {1 + triple * 0.006:.4f}x"
        )


def print_rates(ours: "Ours", *, num: int, rounds: int) -> None:
    """Epochs of `num` samples against as many steps of forward, backward and optimiser alone."""
    ratios = []
    ours.in_turns(steps=2)  # the worker starts, memory is taken
    for _ in range(rounds):
        whole, alone = ours.in_turns(steps=num // BATCH)
        computing = sum(alone[part] for part in ("forward", "backward", "optimiser"))
        ratios.append(computing / sum(whole.values()))
        shares = ", ".join(f"{name} {100 * part / sum(whole.values()):.1f} %" for name, part in whole.items())
        print(
            f"{num / sum(whole.values()):.1f} of {num / computing:.1f} samples/s: {100 * ratios[-1]:.1f} % ({shares})",
            flush=True,
        )
    print(f"median: {100 * median(ratios):.1f} %")


PARTS = ("data", "forward", "backward", "optimiser", "other")
WAITING = ("data", "other")


class Clock:
    """Seconds by what they were spent on: of processor time, or, where a part may wait, of wall time."""

    def __init__(self, *, waiting: Sequence[str] = ()) -> None:
        self.parts = dict.fromkeys(PARTS, 0.0)
        self._waiting, self._marks = waiting, self._now()

    def done(self, part: str) -> None:
        now = self._now()
        wall, busy = (after - before for after, before in zip(now, self._marks, strict=True))
        self.parts[part] += wall if part in self._waiting else busy
        self._marks = now

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()


class Ours:
    """The trainer's own parts in the trainer's own order, with a clock between them."""

    def __init__(self, index: ShardIndex, model: str, folder: Path) -> None:
        self.index, self.folder = index, folder
        self.clip = load_model(model, seed=0)
        self.defence = build_defence(DEFENCES["cleanclip"].options(), Setting(clip=self.clip, seed=0))
        self.stream = BatchStream(
            index, self.clip, needs=self.defence.needs, options=BatchOptions(batch_size=BATCH)
        )
        self.learner = build_learner(self.clip, optim=OPTIM, device="cpu", precision="fp32")
        self.beside = BatchStream(
            index, self.clip, needs=self.defence.needs, options=BatchOptions(batch_size=BATCH, workers=1)
        )
        self.batches = list(self.stream.epoch(0))
        self.number = 0

    def epoch(self) -> dict[str, float]:
        self.number += 1
        return self._run(self.stream.epoch(self.number), save=True)

    def epoch_with_a_worker(self) -> dict[str, float]:
        self.number += 1
        return self._run(self.beside.epoch(self.number), save=True, waiting=PARTS)

    def resident(self) -> dict[str, float]:
        return self._run(iter(self.batches), save=True)

    def in_turns(self, *, steps: int) -> tuple[dict[str, float], dict[str, float]]:
        """An epoch from files with a worker beside, and as many steps on resident tensors between its own."""
        self.number += 1
        whole, alone = Counter[str](), Counter[str]()
        stream = self.beside.epoch(self.number)
        for step in range(steps):
            whole.update(self._run(islice(stream, 1), save=step == steps - 1, waiting=WAITING))
            alone.update(self._run([self.batches[step]], save=False))
        return dict(whole), dict(alone)

    def cost_of_triples(self) -> float:
        """A step with as many triples as pairs, less one without, of the latter."""
        stream = BatchStream(
            self.index,
            self.clip,
            needs=Needs(views=True, triples=True),
            options=BatchOptions(batch_size=BATCH, triples=None),
        )
        with_triples = list(islice(stream.epoch(0), 3))
        defence = build_defence(DEFENCES["cleanerclip"].options(), Setting(clip=self.clip, seed=0))
        plain, more = [], []
        for _ in range(3):
            plain.append(sum(self._run(iter(self.batches[:3]), save=False).values()))
            cleanclip, self.defence = self.defence, defence
            more.append(sum(self._run(iter(with_triples), save=False).values()))
            self.defence = cleanclip
        return median(more[1:]) / median(plain[1:]) - 1

    def _run(self, batches: Any, *, save: bool, waiting: Sequence[str] = ()) -> dict[str, float]:
        learner, clock = self.learner, Clock(waiting=waiting)
        self.clip.model.train()
        metrics = MetricsFile(self.folder / "metrics.jsonl")
        for step, host_batch in enumerate(batches):
            clock.done("data")
            batch = host_batch.to(learner.device)
            loss, terms, _ = compute_loss(learner, self.defence, batch, step=step)
            clock.done("forward")
            _backward(learner, loss, lr=learning_rate(step, total_steps=100, options=OPTIM))
            clock.done("backward")
            learner.scaler.step(learner.optimizer)
            clamp_logit_scale(self.clip.model)
            clock.done("optimiser")
            metrics.write({"step": step, **{name: float(term.detach()) for name, term in terms.items()}})
            clock.done("other")
        metrics.close()
        if save:
            (self.folder / "out").mkdir(exist_ok=True)
            save_run(
                self.folder / "out",
                learner,
                self.defence,
                run=Run(step=1, epoch=1),
                metadata={"options_sha256": ""},
                storage="fp32",
            )
        clock.done("other")
        return clock.parts


def _backward(learner: Learner, loss: torch.Tensor, *, lr: float) -> None:
    set_learning_rate(learner.optimizer, lr)
    learner.optimizer.zero_grad(set_to_none=True)
    learner.embed.backward(learner.scaler.scale(loss))
    learner.scaler.unscale_(learner.optimizer)


class Theirs:
    """CleanCLIP's loop, from what its public code does."""

    def __init__(self, index: ShardIndex, model: str, folder: Path) -> None:
        from open_clip.transform import image_transform  # noqa: TID251

        self.folder, self.clip = folder, load_model(model, seed=0)
        self.transform = image_transform(self.clip.image_size, is_train=False)
        reader = SampleReader(index)
        self.samples = [reader.read(position) for position in range(len(index.keys))]
        self.text = self.clip.tokenizer([sample.caption for sample in self.samples])
        self.text_view = self.clip.tokenizer([views_of(sample.record)[0] for sample in self.samples])
        self.optimizer = torch.optim.AdamW(self.clip.model.parameters(), lr=1e-4, weight_decay=0.1)

    def _item(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        picture = decode(self.samples[number].image)
        view = augmented_view(picture, random.Random(number))
        return self.transform(picture), self.transform(view)

    def epoch(self) -> dict[str, float]:
        clock, model = Clock(), self.clip.model
        order = torch.randperm(len(self.samples), generator=torch.Generator().manual_seed(0))
        model.train()
        for start in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            images, views = zip(*(self._item(number) for number in rows.tolist()), strict=True)
            pixels, texts = torch.stack([*images, *views]), torch.cat([self.text[rows], self.text_view[rows]])
            clock.done("data")
            self.optimizer.zero_grad()
            image_ND = functional.normalize(model.encode_image(pixels), dim=-1)
            text_ND = functional.normalize(model.encode_text(texts), dim=-1)
            (image, image_view), (text, text_view) = image_ND.chunk(2), text_ND.chunk(2)
            scale, labels = model.logit_scale.exp(), torch.arange(BATCH)
            logits = scale * image @ text.T
            loss = (functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.T, labels)) / 2
            loss = loss + functional.cross_entropy(scale * image @ image_view.T, labels) / 2
            loss = loss + functional.cross_entropy(scale * text @ text_view.T, labels) / 2
            clock.done("forward")
            loss.backward()  # type: ignore[no-untyped-call]
            clock.done("backward")
            self.optimizer.step()
            clamp_logit_scale(model)
            clock.done("optimiser")
            float(loss.detach())
            clock.done("other")
        state = {"state_dict": model.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save(state, self.folder / "theirs.pt")
        clock.done("other")
        return clock.parts


if __name__ == "__main__":
    main()
