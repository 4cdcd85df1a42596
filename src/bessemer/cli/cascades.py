"""`cascade`: a small model answers, a large one helps when it is not sure, with a stated guarantee."""

from typing import Annotated, Any

import typer

from bessemer.cli import follow
from bessemer.cli.metric import GraderOption, LabelOption, MetricType, PositiveOption, metric_of
from bessemer.cli.options import AsJson, DryRun, LimitOption, change, client_of, list_rows, show_one
from bessemer.cli.output import show_row
from bessemer.client.calls import CASCADES

app = typer.Typer(help="Cascades.", no_args_is_help=True)


@app.command("run")
def run(
    context: typer.Context,
    route: str,
    dataset: Annotated[str, typer.Option("--dataset", help="Dataset id.")],
    small: Annotated[str, typer.Option("--small", help="Model, alias or version that answers first.")],
    large: Annotated[str, typer.Option("--large", help="Model, alias or version that helps.")],
    alpha: Annotated[float, typer.Option("--alpha", min=0, help="Most that may be lost, in the metric's unit.")],
    metric: MetricType = "accuracy",
    label: LabelOption = None,
    positive: PositiveOption = None,
    grader: GraderOption = None,
    rule: Annotated[str, typer.Option("--rule", help="loss, error, f1 or bootstrap.")] = "loss",
    delta: Annotated[float, typer.Option("--delta", help="The guarantee holds with probability 1 - delta.")] = 0.1,
    score: Annotated[
        str | None, typer.Option("--score", help="Confidence, as choice_margin, mean_logprob or field_probability.")
    ] = None,
    activate: Annotated[bool, typer.Option("--activate/--no-activate", help="Put the route into force.")] = True,
    wait: Annotated[bool, typer.Option("--wait", help="Print events until it has finished.")] = False,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Calibrate the small model, choose a threshold by risk control, and make the route a cascade."""
    body: dict[str, Any] = {
        "route": route,
        "dataset": dataset,
        "small": small,
        "large": large,
        **metric_of(metric, label, positive, grader),
        "alpha": alpha,
        "delta": delta,
        "rule": rule,
        "score": score,
        "activate": activate,
    }
    if wait and not dry_run:
        client = client_of(context)
        job = client.send(CASCADES.create(body))
        show_row(follow.wait(client, CASCADES, job.id, quiet=as_json), as_json=as_json)
    else:
        change(context, CASCADES.create(body), route, "{id} is {status}.", as_json=as_json, dry_run=dry_run)


@app.command("list")
def list_cascades(context: typer.Context, limit: LimitOption = 20, as_json: AsJson = False) -> None:
    """List cascade jobs, newest first."""
    columns = ("id", "status", "request.route", "result.threshold", "result.accepted_share", "created_at")
    list_rows(context, CASCADES.list({"limit": limit}), columns, as_json=as_json)


@app.command("show")
def show(context: typer.Context, cascade: str, as_json: AsJson = False) -> None:
    """Show one cascade job with its curve and guarantee."""
    show_one(context, CASCADES.get(cascade), as_json=as_json)


@app.command("wait")
def wait_for(context: typer.Context, cascade: str, as_json: AsJson = False) -> None:
    """Print a cascade job's events until it has finished; exit code 2 when it failed."""
    show_row(follow.wait(client_of(context), CASCADES, cascade, quiet=as_json), as_json=as_json)


@app.command("cancel")
def cancel(context: typer.Context, cascade: str, as_json: AsJson = False, dry_run: DryRun = False) -> None:
    """Cancel a cascade job; the route stays as it is."""
    change(context, CASCADES.cancel(cascade), cascade, "{id} is {status}.", as_json=as_json, dry_run=dry_run)
