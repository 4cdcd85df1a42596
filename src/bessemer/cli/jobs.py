"""`jobs`: fine-tuning jobs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bessemer.cli import follow
from bessemer.cli.options import AsJson, DryRun, LimitOption, change, client_of, list_rows, pair, read_object, show_one
from bessemer.cli.output import show_row
from bessemer.client import Operation, calls
from bessemer.client.calls import FINE_TUNING
from bessemer.core.openai import FineTuningJob

app = typer.Typer(help="Fine-tuning jobs.", no_args_is_help=True)

Wait = Annotated[bool, typer.Option("--wait", help="Print events until the job has finished.")]


@app.command("create")
def create(
    context: typer.Context,
    model: Annotated[str, typer.Option("--model", help="A local model or a version of one.")],
    training_file: Annotated[str, typer.Option("--training-file", help="File id.")],
    validation_file: Annotated[str | None, typer.Option("--validation-file", help="File id.")] = None,
    grader: Annotated[Path | None, typer.Option("--grader", help="JSON file; makes it a reinforcement job.")] = None,
    method: Annotated[
        str | None, typer.Option("--method", help="Default: supervised, or reinforcement with a grader.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="A hyperparameter, e.g. n_epochs=2; repeat for more.")
    ] = None,
    suffix: Annotated[str | None, typer.Option("--suffix")] = None,
    seed: Annotated[int | None, typer.Option("--seed")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", help="NAME=VALUE, as bessemer.max_seconds=600; repeat for more.")
    ] = None,
    wait: Wait = False,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Start a job: supervised, with --grader reinforcement, or of another --method."""
    body: dict[str, Any] = {"hyperparameters": dict(_setting(text) for text in setting or ())}
    kind = method or ("supervised" if grader is None else "reinforcement")
    if grader is not None:
        body["grader"] = read_object(grader, "the grader")
    request = {
        "model": model,
        "training_file": training_file,
        "validation_file": validation_file,
        "suffix": suffix,
        "seed": seed,
        "metadata": dict(pair(text, "metadata") for text in metadata) if metadata else None,
        "method": {"type": kind, kind: body},
    }
    sentence = "{id} is {status}."
    if wait and not dry_run:
        client = client_of(context)
        job = client.send(FINE_TUNING.create(request))
        show_row(follow.wait(client, FINE_TUNING, job.id, quiet=as_json), as_json=as_json)
    else:
        change(context, FINE_TUNING.create(request), "fine_tuning.job", sentence, as_json=as_json, dry_run=dry_run)


def _setting(text: str) -> tuple[str, Any]:
    name, value = pair(text, "set")
    try:
        number = float(value)
    except ValueError:
        return name, value
    return name, int(number) if number.is_integer() and "." not in value else number


@app.command("list")
def list_jobs(context: typer.Context, limit: LimitOption = 20, as_json: AsJson = False) -> None:
    """List jobs, newest first."""
    columns = ("id", "status", "model", "method.type", "fine_tuned_model", "created_at")
    list_rows(context, FINE_TUNING.list({"limit": limit}), columns, as_json=as_json)


@app.command("show")
def show(context: typer.Context, job: str, as_json: AsJson = False) -> None:
    """Show one job."""
    show_one(context, FINE_TUNING.get(job), as_json=as_json)


@app.command("events")
def events(context: typer.Context, job: str, limit: LimitOption = 20, as_json: AsJson = False) -> None:
    """List a job's events, newest first."""
    columns = ("created_at", "level", "message")
    list_rows(context, FINE_TUNING.events(job, {"limit": limit}), columns, as_json=as_json)


@app.command("checkpoints")
def checkpoints(context: typer.Context, job: str, limit: LimitOption = 10, as_json: AsJson = False) -> None:
    """List a job's checkpoints, newest first."""
    columns = ("step_number", "fine_tuned_model_checkpoint", "metrics")
    list_rows(context, calls.list_checkpoints(job, {"limit": limit}), columns, as_json=as_json)


@app.command("wait")
def wait_for(context: typer.Context, job: str, as_json: AsJson = False) -> None:
    """Print a job's events until it has finished; exit code 2 when it failed."""
    show_row(follow.wait(client_of(context), FINE_TUNING, job, quiet=as_json), as_json=as_json)


def _steer(
    context: typer.Context, operation: Operation[FineTuningJob], job: str, *, as_json: bool, dry_run: bool
) -> None:
    change(context, operation, job, "{id} is {status}.", as_json=as_json, dry_run=dry_run)


@app.command("cancel")
def cancel(context: typer.Context, job: str, as_json: AsJson = False, dry_run: DryRun = False) -> None:
    """Cancel a job."""
    _steer(context, FINE_TUNING.cancel(job), job, as_json=as_json, dry_run=dry_run)


@app.command("pause")
def pause(context: typer.Context, job: str, as_json: AsJson = False, dry_run: DryRun = False) -> None:
    """Pause a job at its next checkpoint."""
    _steer(context, FINE_TUNING.pause(job), job, as_json=as_json, dry_run=dry_run)


@app.command("resume")
def resume(context: typer.Context, job: str, as_json: AsJson = False, dry_run: DryRun = False) -> None:
    """Resume a paused job."""
    _steer(context, FINE_TUNING.resume(job), job, as_json=as_json, dry_run=dry_run)
