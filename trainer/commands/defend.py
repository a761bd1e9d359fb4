"""`trainer defend`: a CLIP that may carry a backdoor in, one that has forgotten it out."""

from typing import Annotated, Any

import typer

from pipeline.console import OneOf, from_options
from trainer.batches import BatchOptions
from trainer.commands.audit import audit_into
from trainer.commands.options import Out, Resume
from trainer.conversion import AUDITS
from trainer.defences import DEFAULT, DEFENCES, Method, choose_options
from trainer.launch import Source, print_summary
from trainer.launch import defend as defend_model
from trainer.model import ModelChoice
from trainer.optim import OptimOptions
from trainer.run_folder import check_folder
from trainer.train import TrainOptions
from trainer.watching import WatchOptions

OPTIONS = OneOf(
    chooser="method",
    classes={name: entry.options for name, entry in DEFENCES.items()},
    build=choose_options,
)


@from_options()
def defend(
    model: ModelChoice,
    source: Source,
    out: Out,
    method: Annotated[
        Method,
        typer.Option(
            help="anchored: the model as it came teaches its own clean embeddings while triggers are invented "
            "against it; ft: CLIP's loss alone; cleanclip, cleanerclip, par: as published."
        ),
    ] = DEFAULT,
    defence: Annotated[Any, OPTIONS] = None,
    *,
    batches: BatchOptions,
    optim: OptimOptions,
    options: TrainOptions,
    watch: WatchOptions,
    resume: Resume = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say what the run will need, time a few steps, draw a batch into OUT; then stop.",
        ),
    ] = False,
    guard: Annotated[
        bool,
        typer.Option(
            help="Hold out 5 % of the samples (256 at most), watch retrieval, agreement with the model as it came and "
            "universal triggers on them after each epoch; stop where the model collapses, keep the best epoch.",
        ),
    ] = True,
    audit: Annotated[
        bool,
        typer.Option(
            "--audit",
            help="Audit the model before and after on the same shards: what is found is printed, and written into "
            "the run's folder (audit-before.json, audit-after.json).",
        ),
    ] = False,
) -> None:
    """Fine-tune a CLIP on clean or suspect shards so that a backdoor is forgotten."""
    audit = audit and not dry_run
    if audit:
        check_folder(out, resume=resume)
        audit_into(out / AUDITS[0], model, source, device=options.device)
    summary = defend_model(
        model,
        source,
        defence,
        batches=batches,
        optim=optim,
        options=options,
        out=out,
        resume=resume,
        dry_run=dry_run,
        guard=guard,
        watch=watch,
    )
    print_summary(summary)
    if audit:
        after = ModelChoice(checkpoint=out)
        audit_into(out / AUDITS[1], after, source, device=options.device)
