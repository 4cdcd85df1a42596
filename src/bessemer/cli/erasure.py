"""`erase`: delete what was asked, answered and said, for good."""

from typing import Annotated

import typer

from bessemer.cli.options import AsJson, DryRun, change, pair
from bessemer.client import calls


def erase(
    context: typer.Context,
    inference: Annotated[list[str] | None, typer.Option("--inference", help="Inference id; may be repeated.")] = None,
    feedback: Annotated[list[str] | None, typer.Option("--feedback", help="Feedback id; may be repeated.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="NAME=VALUE, as user=u-17; all must match.")] = None,
    route: Annotated[str | None, typer.Option("--route", help="Of this route alone.")] = None,
    since: Annotated[float | None, typer.Option("--since", help="Unix seconds.")] = None,
    until: Annotated[float | None, typer.Option("--until", help="Unix seconds.")] = None,
    count: Annotated[bool, typer.Option("--count", help="Count what would go, and erase nothing.")] = False,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Erase inferences with their calls and feedback, and name what was derived from them."""
    body = {
        "inference_ids": inference or [],
        "feedback_ids": feedback or [],
        "tags": dict(pair(text, "tag") for text in tag or []),
        "route": route,
        "since": since,
        "until": until,
        "dry_run": count,
    }
    sentence = "{inferences} inferences, {model_calls} calls, {feedback} feedback " + ("match." if count else "erased.")
    answer = change(context, calls.erase(body), "records", sentence, as_json=as_json, dry_run=dry_run)
    if answer is None or as_json:
        return
    for kind, ids in answer["derived"].items():
        if ids:
            typer.echo(f"derived {kind}, still there: {', '.join(ids)}")
    if answer["more"]:
        typer.echo("Others match: run it again.")
