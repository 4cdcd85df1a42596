"""`bessemer demo`: from verdicts to the cheapest route that is good enough, on made-up offers."""

from pathlib import Path
from typing import Annotated

import typer

from bessemer.cli.options import Session
from bessemer.core.settings import Settings
from bessemer.engine.extra import check_installed


def demo(
    context: typer.Context,
    data: Annotated[Path | None, typer.Option("--data", help="Data folder; default: data.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the report.")] = Path("out/demo"),
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Seed of the offers, the expert's errors and the training.")
    ] = 0,
    smoke: Annotated[bool, typer.Option("--smoke", help="A tenth of the requests, to see that it works.")] = False,
    ladder_only: Annotated[
        bool, typer.Option("--ladder-only", help="Stop before the small language model: the first minute alone.")
    ] = False,
) -> int:
    """Climb a ladder of rungs on made-up offers, tune a small model if that may pay, and write a report page.

    Starts its own server on a free port. A run that was interrupted continues; after a finished one a new one begins.
    """
    check_installed()
    from bessemer.cli.demo.run import run
    from bessemer.cli.demo.scenario import Scale

    session = context.find_object(Session)
    if data is None and session is not None:
        data = session.data
    return run(data or Settings().data, out, seed, Scale.of(smoke=smoke, ladder_only=ladder_only))
