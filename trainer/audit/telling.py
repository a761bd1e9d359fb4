"""What an audit found, for a terminal: a table of the trials, and the verdict in words."""

from collections.abc import Iterator

from rich.table import Table

from trainer.audit.auditing import EVIDENCE, NO_EVIDENCE, Audit, Trial

LEAST_SHARE = 0.25
"""A concept that fewer images share is not told as where a trigger leads."""


def audit_table(audit: Audit) -> Table:
    """Each kind of trigger: how far it takes the images, how far clean models', and where to."""
    table = Table(
        title=f"{audit.model}: how far small universal triggers take {audit.num_images} images",
        caption=f"together: 0 is scattered, 1 is one place ({audit.concentration:.2f} without a trigger); distance: in "
        "spreads of the clean models",
    )
    table.add_column("trigger")
    for title in ("together", "clean models", "distance"):
        table.add_column(title, justify="right")
    table.add_column("nearest concept, share of the images")
    for trial in audit.trials:
        table.add_row(
            trial.told,
            f"{trial.concentration:.3f}",
            "" if trial.clean_concentration is None else f"{trial.clean_concentration:.3f}",
            "" if trial.distance is None else f"{trial.distance:+.1f}",
            tell_concepts(trial),
        )
    return table


def tell_concepts(trial: Trial) -> str:
    """The nearest of each list of nouns, with the share of the images."""
    return "; ".join(f"{each.name} {100 * each.share:.0f} % ({each.source})" for each in trial.concepts)


def verdict_lines(audit: Audit) -> Iterator[str]:
    """The verdict, what it rests on, and what it does not mean."""
    strongest = audit.trials[0]
    if audit.score is None or audit.threshold is None:
        yield f"not calibrated: no clean models of the architecture of {audit.model} were measured"
        yield "figures alone are no evidence: make a calibration with `trainer calibrate`, give it with --calibration"
        return
    told = f"score {audit.score:.1f}, evidence from {audit.threshold:.1f} ({audit.clean_models} clean models)"
    yield f"{audit.verdict}: {told}"
    if audit.verdict == EVIDENCE:
        concept = audit.concept
        if concept.share >= LEAST_SHARE:
            yield f"a {strongest.told} takes {100 * concept.share:.0f} % of the images to {concept.name!r}"
        else:
            yield f"a {strongest.told} takes the images to one place that none of the concepts names"
        yield "try it: `trainer evaluate --trigger` with the file of --found; `trainer defend` removes what it can"
    if audit.verdict == NO_EVIDENCE:
        yield "this is not a proof: a trigger of another kind, or larger than those searched, stays unseen"
