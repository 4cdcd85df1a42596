"""`eval`: systems scored on a dataset, and the gate."""

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from bessemer.cli import follow
from bessemer.cli.metric import GraderOption, LabelOption, MetricType, PositiveOption, metric_of
from bessemer.cli.options import AsJson, DryRun, LimitOption, change, client_of, list_rows
from bessemer.cli.output import printable, show_row, show_rows
from bessemer.client import as_sent
from bessemer.client.calls import EVALUATIONS
from bessemer.core.errors import ConfigError

app = typer.Typer(help="Evaluations.", no_args_is_help=True)


@app.command("run")
def run(
    context: typer.Context,
    dataset: Annotated[str, typer.Option("--dataset", help="Dataset id.")],
    system: Annotated[list[str], typer.Option("--system", help="Route, model, alias or version; repeat for more.")],
    metric: MetricType = "accuracy",
    label: LabelOption = None,
    positive: PositiveOption = None,
    grader: GraderOption = None,
    split: Annotated[str, typer.Option("--split")] = "holdout",
    candidate: Annotated[str | None, typer.Option("--candidate", help="A system that must not be worse ...")] = None,
    reference: Annotated[str | None, typer.Option("--reference", help="... than this one ...")] = None,
    margin: Annotated[
        float | None, typer.Option("--margin", min=0, help="... by more than this; the operator's if left out.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Examples at most.")] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0, max=2, help="Of every answer; default: each system's own.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Print events until it has finished.")] = False,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Score systems on a split; with --candidate and --reference, apply the non-inferiority gate."""
    if (candidate is None) != (reference is None):
        raise ConfigError("--candidate and --reference belong together.", param="candidate")
    body: dict[str, Any] = {
        "dataset": dataset,
        "systems": system,
        **metric_of(metric, label, positive, grader),
        "split": split,
        "candidate": candidate,
        "reference": reference,
        "margin": margin,
        "limit": limit,
        "temperature": temperature,
    }
    if wait and not dry_run:
        client = client_of(context)
        job = client.send(EVALUATIONS.create(body))
        _show(follow.wait(client, EVALUATIONS, job.id, quiet=as_json), as_json=as_json)
    else:
        change(context, EVALUATIONS.create(body), "evaluation", "{id} is {status}.", as_json=as_json, dry_run=dry_run)


def _show(job: Mapping[str, Any], *, as_json: bool) -> None:
    """Print an evaluation: a line for each system, then what the gate says; before it has ended, its status."""
    result = job.get("result")
    if as_json or not result:
        show_row(job, as_json=as_json)
        return
    sys.stdout.write(f"{job['id']}  {result['metric']} on {result['split']} of {result['dataset']}\n\n")
    columns = ("name", "n", "unscorable", "score", "interval", "usd", "p50_s", "version")
    show_rows([_line(row) for row in result["rows"]], columns, as_json=False)
    gate = result.get("gate")
    if gate:
        sys.stdout.write(f"\n{printable(gate['rule'])}\n")


def _line(row: Mapping[str, Any]) -> dict[str, Any]:
    score = row["score"]
    known: dict[str, str | None] = {"score": None, "interval": None}
    if score:
        known = {"score": f"{score['value']:.4f}", "interval": f"{score['low']:.4f} to {score['high']:.4f}"}
    named = {name: row.get(name) for name in ("name", "n", "unscorable", "version")}
    return named | known | {"usd": row.get("cost_usd"), "p50_s": row.get("latency_p50_s")}


@app.command("list")
def list_evaluations(context: typer.Context, limit: LimitOption = 20, as_json: AsJson = False) -> None:
    """List evaluations, newest first."""
    columns = ("id", "status", "request.dataset", "request.systems", "result.gate.passed", "created_at")
    list_rows(context, EVALUATIONS.list({"limit": limit}), columns, as_json=as_json)


@app.command("show")
def show(context: typer.Context, evaluation: str, as_json: AsJson = False) -> None:
    """Show one evaluation with its rows and gate."""
    _show(client_of(context).send(as_sent(EVALUATIONS.get(evaluation))), as_json=as_json)


@app.command("wait")
def wait_for(context: typer.Context, evaluation: str, as_json: AsJson = False) -> None:
    """Print an evaluation's events until it has finished; exit code 2 when it failed."""
    _show(follow.wait(client_of(context), EVALUATIONS, evaluation, quiet=as_json), as_json=as_json)


@app.command("cancel")
def cancel(context: typer.Context, evaluation: str, as_json: AsJson = False, dry_run: DryRun = False) -> None:
    """Cancel an evaluation."""
    change(context, EVALUATIONS.cancel(evaluation), evaluation, "{id} is {status}.", as_json=as_json, dry_run=dry_run)
