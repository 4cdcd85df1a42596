"""`feedback`: what was learned about inferences."""

from typing import Annotated

import typer

from bessemer.cli.options import AsJson, DryRun, LimitOption, change, list_rows
from bessemer.client import calls

app = typer.Typer(help="Verdicts, scores, comments and corrections.", no_args_is_help=True)


@app.command("add")
def add(
    context: typer.Context,
    value: Annotated[str, typer.Argument(help="true, false, a number, or text for comments and demonstrations.")],
    inference: Annotated[str | None, typer.Option("--inference", help="Inference id.")] = None,
    episode: Annotated[str | None, typer.Option("--episode", help="Episode id.")] = None,
    metric: Annotated[
        str, typer.Option("--metric", help="verdict, comment, demonstration or a metric's name.")
    ] = "verdict",
    source: Annotated[str, typer.Option("--source", help="human, llm_judge, code or outcome.")] = "human",
    author: Annotated[str | None, typer.Option("--author")] = None,
    trust: Annotated[float, typer.Option("--trust", min=0, max=1)] = 1.0,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Record feedback on an inference or an episode."""
    body = {
        "inference_id": inference,
        "episode_id": episode,
        "metric": metric,
        "value": value if metric in {"comment", "demonstration"} else _parse(value),
        "source": source,
        "author": author,
        "trust": trust,
    }
    change(context, calls.give_feedback(body), "feedback", "{id} recorded.", as_json=as_json, dry_run=dry_run)


def _parse(text: str) -> bool | float | str:
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    try:
        return float(text)
    except ValueError:
        return text


@app.command("wanted")
def wanted(context: typer.Context, route: str, limit: LimitOption = 20, as_json: AsJson = False) -> None:
    """List the requests that are worth a verdict most; what is learned of them teaches, and gates nothing."""
    columns = ("inference_id", "output", "confidence", "alike", "score")
    list_rows(context, calls.wanted_feedback({"route": route, "limit": limit}), columns, as_json=as_json)


@app.command("list")
def list_feedback(
    context: typer.Context,
    inference: Annotated[str | None, typer.Option("--inference")] = None,
    metric: Annotated[str | None, typer.Option("--metric")] = None,
    limit: LimitOption = 20,
    as_json: AsJson = False,
) -> None:
    """List feedback, newest first."""
    columns = ("id", "inference_id", "metric", "value", "source", "created_at")
    query = {"inference_id": inference, "metric": metric, "limit": limit}
    list_rows(context, calls.list_feedback(query), columns, as_json=as_json)
