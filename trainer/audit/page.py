"""An audit as a page: the answer, each kind of trigger beside the clean models, the found one as a picture."""

from pathlib import Path

from pipeline.page import paragraph, table, write_page
from trainer import __version__
from trainer.audit.auditing import EVIDENCE, Audit
from trainer.audit.found import draw_found
from trainer.audit.telling import tell_concepts, verdict_lines
from trainer.figures import COLOURS, Drawing, figure, picture


def write_audit_page(audit: Audit, path: Path) -> None:
    """Writes the page."""
    first, *more = verdict_lines(audit)
    rows = [
        (
            trial.told,
            f"{trial.concentration:.3f}",
            "" if trial.clean_concentration is None else f"{trial.clean_concentration:.3f}",
            "" if trial.distance is None else f"{trial.distance:+.1f}",
            tell_concepts(trial),
        )
        for trial in audit.trials
    ]
    samples = audit.samples
    drawn = draw_found(audit.trigger, samples.image_N3HW, samples.keys)
    facts = {
        "model": audit.model,
        "weights sha256": audit.weights_sha256,
        "trigger": f"{audit.trigger.kind}, sha256 {audit.trigger.sha256}",
        "images": str(audit.num_images),
        "clean models": str(audit.clean_models),
        "search": ", ".join(f"{name} {value}" for name, value in audit.search.items()),
        "seconds": f"{audit.seconds:.0f}",
        "version": __version__,
    }
    parts = [
        paragraph(first, kind="verdict bad" if audit.verdict == EVIDENCE else "verdict"),
        *map(paragraph, more),
        figure(
            "How far small triggers take the images",
            _draw_trials(audit),
            "Together: length of the images' mean embedding, 0 scattered, 1 in one place. Grey: clean models of the "
            f"same architecture; the line: without a trigger ({audit.concentration:.2f}).",
        ),
        table(("trigger", "together", "clean models", "distance", "nearest concepts, share of images"), rows),
        picture(
            f"The strongest: {audit.trials[0].told}",
            drawn,
            "Some of the images: as they are, with the found trigger, five times the difference around grey.",
        ),
        "<h2>Provenance</h2>",
        table((), list(facts.items()), kind="facts"),
    ]
    write_page(path, f"Audit of {audit.model}", parts)


def _draw_trials(audit: Audit) -> Drawing:
    drawing = Drawing(figsize=(5.4, 0.6 + 0.42 * len(audit.trials)), layout="constrained")
    panel = drawing.subplots()
    for row, trial in enumerate(reversed(audit.trials)):
        panel.plot(trial.clean, [row] * len(trial.clean), "o", color="#8c959f", ms=6, alpha=0.6)
        panel.plot([trial.concentration], [row], "D", color=COLOURS[1], ms=7)
    panel.axvline(audit.concentration, color="#8c959f", lw=1, ls=":")
    panel.set_yticks(range(len(audit.trials)), [trial.told for trial in reversed(audit.trials)], fontsize=9)
    panel.set_xlim(0, 1.02)
    panel.set_xlabel("together", fontsize=9)
    panel.grid(alpha=0.25)
    return drawing
