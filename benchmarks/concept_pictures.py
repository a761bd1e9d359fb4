"""Draws the pictures of docs/concepts.md: where images lie before and after a defence, and what each defence does.

    python -m benchmarks.concept_pictures --data demo/data/manifest.json --target banana --out docs/pictures \
        --trigger trainer/demo_victim/trigger.safetensors --models victim=trainer/demo_victim/victim.safetensors \
        "plain fine-tuning=demo/fine-tuned" anchored=demo/defended

The first picture is measured, on the models NAME=CHECKPOINT; the second is a sketch.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from trainer.attacks import load_trigger
from trainer.embedding import embed_classes, embed_images, evaluation_mode
from trainer.evals import LabelledImages, load_labelled
from trainer.figures import COLOURS, Drawing
from trainer.model import ModelChoice

TEXT, IMAGE, TRIGGERED, OTHER, OLD = COLOURS[2], COLOURS[0], COLOURS[1], COLOURS[3], "#8c959f"
Point = tuple[float, float]
DOG, CAT, BANANA = (0.2, 0.78), (0.22, 0.2), (0.82, 0.5)
"""Where the sketch has the texts."""


def main() -> None:
    options = parse_options()
    data = load_labelled(options.data)
    options.out.mkdir(parents=True, exist_ok=True)
    models = [given.partition("=")[::2] for given in options.models]
    found = {name: places(Path(path), data, options.trigger, options.target) for name, path in models}
    save(draw_places(found, options.target), options.out / "places.svg")
    save(draw_defences(), options.out / "defences.svg")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--trigger", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def save(drawing: Drawing, path: Path) -> None:
    import matplotlib as mpl  # noqa: TID251  # its settings, as trainer.figures has them

    with mpl.rc_context({"svg.hashsalt": "cleanerclip"}):
        drawing.savefig(path, format="svg", bbox_inches="tight", facecolor="white", metadata={"Date": None})


@torch.no_grad()
def places(checkpoint: Path, data: LabelledImages, trigger: str, target: str) -> dict[str, Tensor]:
    """Cosines to the own class and to the target's, of images of other classes; and the ASR in percent."""
    clip = ModelChoice(checkpoint=checkpoint).load_trained()
    loaded = load_trigger(trigger, image_size=clip.image_size)
    label = data.label_of(target)
    rows, hits = [], []
    with evaluation_mode(clip):
        class_CD = embed_classes(clip, data.classnames, data.templates)
        for batch in data.batches(clip.resize, batch_size=256):
            kept = batch.label_N != label
            own_N = batch.label_N[kept]
            sides = (batch.image_N3HW, loaded.apply(batch.image_N3HW, keys=list(batch.keys)))
            cosine_2NC = torch.stack(
                [
                    functional.normalize(embed_images(clip, images[kept]), dim=-1) @ class_CD.T
                    for images in sides
                ]
            )
            own_2N = cosine_2NC.gather(2, own_N.expand(2, -1).unsqueeze(2)).squeeze(2)
            rows.append(torch.stack([own_2N, cosine_2NC[:, :, label]]))
            hits.append((cosine_2NC[1].argmax(dim=1) == label).float())
    return {"place_22N": torch.cat(rows, dim=2), "asr": 100 * torch.cat(hits).mean()}


def draw_places(found: dict[str, dict[str, Tensor]], target: str) -> Drawing:
    drawing = Drawing(figsize=(3.1 * len(found), 3.1), layout="constrained")
    panels = drawing.subplots(1, len(found), sharex=True, sharey=True, squeeze=False)[0]
    bounds = torch.cat([each["place_22N"].flatten() for each in found.values()])
    low, high = float(bounds.min()) - 0.03, float(bounds.max()) + 0.03
    for panel, (name, each) in zip(panels, found.items(), strict=True):
        panel.plot([low, high], [low, high], color=OLD, lw=1, ls="--")
        for side, colour, told in ((0, IMAGE, "clean"), (1, TRIGGERED, "with the trigger")):
            own_N, target_N = each["place_22N"][:, side, ::4]
            panel.scatter(own_N, target_N, s=7, lw=0, alpha=0.6, color=colour, label=told)
        panel.set_title(f"{name}: ASR {float(each['asr']):.1f} %", fontsize=10)
        panel.set_xlabel("cosine to its own class's text", fontsize=8)
        panel.set_xlim(low, high)
        panel.set_ylim(low, high)
        panel.tick_params(labelsize=7)
    panels[0].set_ylabel(f'cosine to the text "{target}"', fontsize=8)
    panels[0].legend(fontsize=7, loc="lower left", markerscale=1.6)
    return drawing


# ---------------------------------------------------------------------------------------------------------- the sketch
def draw_defences() -> Drawing:
    sketches: dict[str, Callable[[Any], None]] = {
        "as it came": lambda panel: None,
        "ft": _ft,
        "cleanclip": _cleanclip,
        "cleanerclip": _cleanerclip,
        "par": _par,
        "anchored": _anchored,
    }
    drawing = Drawing(figsize=(9.6, 6.2), layout="constrained")
    for panel, (name, sketch) in zip(drawing.subplots(2, 3).flat, sketches.items(), strict=True):
        _base(panel, triggered=name != "par")
        sketch(panel)
        panel.set_title(f"{name}: {TOLD[name]}", fontsize=9)
        panel.set_xlim(0, 1)
        panel.set_ylim(0, 1)
        panel.set_xticks([])
        panel.set_yticks([])
    return drawing


TOLD: Final = {
    "as it came": "the trigger leads to the target",
    "ft": "pairs together, the rest apart",
    "cleanclip": "and views of one thing together",
    "cleanerclip": "and away from what is almost said",
    "par": "away from where it was, within a bound",
    "anchored": "stay where clean images were",
}


def _base(panel: Any, *, triggered: bool) -> None:
    """Texts as squares, clean images as dots, triggered ones as triangles beside the target's text."""
    for (x, y), word, beside in ((DOG, '"a dog"', 9), (CAT, '"a cat"', -16), (BANANA, '"a banana"', -16)):
        panel.plot(x, y, "s", color=TEXT, ms=9)
        told = {"xytext": (0, beside), "textcoords": "offset points", "fontsize": 8, "ha": "center"}
        panel.annotate(word, (x, y), **told)
    for x, y in (DOG, CAT):
        panel.plot([x + 0.1, x + 0.13], [y - 0.03, y + 0.07], "o", color=IMAGE, ms=6)
    if triggered:
        for x, y in ((0.7, 0.58), (0.69, 0.5)):
            panel.plot(x, y, "^", color=TRIGGERED, ms=8)


def _arrow(panel: Any, start: Point, end: Point, *, colour: str, style: str = "-", heads: str = "->") -> None:
    told = {"arrowstyle": heads, "color": colour, "lw": 1.6, "ls": style, "shrinkA": 4, "shrinkB": 4}
    panel.annotate("", end, xytext=start, arrowprops=told)


def _ft(panel: Any) -> None:
    for x, y in (DOG, CAT):
        _arrow(panel, (x + 0.13, y + 0.07), (x + 0.02, y + 0.01), colour=IMAGE)
        _arrow(panel, (x + 0.1, y - 0.03), (x + 0.02, y - 0.01), colour=IMAGE)
    _arrow(panel, DOG, CAT, colour=OLD, style="--", heads="<->")


def _cleanclip(panel: Any) -> None:
    _ft(panel)
    for x, y in (DOG, CAT):
        view = (x + 0.28, y + 0.1)
        panel.plot(*view, "o", mfc="white", mec=IMAGE, ms=6)
        _arrow(panel, view, (x + 0.14, y + 0.075), colour=OTHER)
    panel.annotate(
        "the same image, altered", (0.48, 0.93), fontsize=7.5, color=OTHER, ha="center", annotation_clip=False
    )


def _cleanerclip(panel: Any) -> None:
    for (x, y), positive, negative in ((DOG, "black dog", "black jar"), (CAT, "cat asleep", "cat awake")):
        below = 0.1 if y > 0.5 else -0.12
        panel.plot(x + 0.02, y - below, "s", mfc="white", mec=TEXT, ms=8)
        panel.annotate(positive, (x - 0.02, y - below), fontsize=7.5, ha="right", va="center")
        panel.plot(x + 0.3, y - 0.08, "s", color=OTHER, ms=8)
        panel.annotate(negative, (x + 0.34, y - 0.08), fontsize=7.5, va="center")
        _arrow(panel, (x + 0.1, y - 0.03), (x + 0.03, y - below), colour=IMAGE)
        _arrow(panel, (x + 0.29, y - 0.07), (x + 0.12, y - 0.02), colour=OTHER, style="--", heads="<->")


def _par(panel: Any) -> None:
    from matplotlib.patches import Circle  # noqa: TID251

    for x, y in ((DOG[0] + 0.1, DOG[1] - 0.03), (CAT[0] + 0.1, CAT[1] - 0.03), (0.72, 0.5)):
        panel.add_patch(Circle((x, y), 0.13, fill=False, ec=OLD, ls=":"))
        panel.plot(x, y, "x", color=OLD, ms=7)
    _arrow(panel, (DOG[0] + 0.1, DOG[1] - 0.03), (DOG[0] + 0.2, DOG[1] - 0.1), colour=IMAGE)
    _arrow(panel, (CAT[0] + 0.1, CAT[1] - 0.03), (CAT[0] + 0.19, CAT[1] + 0.07), colour=IMAGE)
    _arrow(panel, (0.72, 0.5), (0.62, 0.45), colour=TRIGGERED)
    panel.plot(0.61, 0.44, "^", color=TRIGGERED, ms=8)


def _anchored(panel: Any) -> None:
    for (x, y), colour in ((DOG, IMAGE), (CAT, IMAGE)):
        panel.plot(x + 0.13, y + 0.07, "o", mfc="none", mec=colour, ms=12, mew=1.4)
        panel.plot(x + 0.1, y - 0.03, "o", mfc="none", mec=colour, ms=12, mew=1.4)
    panel.plot(0.6, 0.72, "^", mfc="white", mec=TRIGGERED, ms=8)
    panel.annotate(
        "with a trigger that\nwas invented", (0.63, 0.79), fontsize=7.5, color=TRIGGERED, ha="center"
    )
    _arrow(panel, (0.6, 0.72), (DOG[0] + 0.16, DOG[1] + 0.06), colour=TRIGGERED)
    _arrow(panel, (0.7, 0.58), (DOG[0] + 0.13, DOG[1] - 0.03), colour=TRIGGERED, style="--")


if __name__ == "__main__":
    main()
