"""`graders`: check a grader and try it on one answer, before a job trains on it."""

from pathlib import Path
from typing import Annotated

import typer

from bessemer.cli.options import AsJson, read_object, show_one
from bessemer.client import calls

app = typer.Typer(help="Graders of reinforcement jobs and evaluations.", no_args_is_help=True)

GraderFile = Annotated[Path, typer.Argument(help="JSON file of the grader.")]


@app.command("validate")
def validate(context: typer.Context, grader: GraderFile, as_json: AsJson = False) -> None:
    """Check a grader's form and its templates."""
    body = {"grader": read_object(grader, "the grader")}
    show_one(context, calls.validate_grader(body), as_json=as_json)


@app.command("run")
def run(
    context: typer.Context,
    grader: GraderFile,
    sample: Annotated[str, typer.Option("--sample", help="The answer to grade.")],
    item: Annotated[Path | None, typer.Option("--item", help="JSON file of the row that it answers.")] = None,
    as_json: AsJson = False,
) -> None:
    """Grade one answer: its reward, and what went wrong where it has none."""
    body = {
        "grader": read_object(grader, "the grader"),
        "model_sample": sample,
        "item": {} if item is None else read_object(item, "the item"),
    }
    show_one(context, calls.run_grader(body), as_json=as_json)
