"""`ladder`: from a route's feedback to the cheapest route that is good enough; `ladders` shows past ones."""

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from bessemer.cli import follow
from bessemer.cli.metric import LabelOption, PositiveOption
from bessemer.cli.options import AsJson, DryRun, LimitOption, change, client_of, list_rows
from bessemer.cli.output import printable, show_row, show_rows
from bessemer.client import Client, as_sent
from bessemer.client.calls import LADDERS, create_dataset
from bessemer.core.wire import DatasetRequest

app = typer.Typer(help="Ladders that were climbed.", no_args_is_help=True)
_COLUMNS = ("rung", "version", "n", "quality", "interval", "usd_per_1k", "ms", "fit_s", "share", "note")


def ladder(
    context: typer.Context,
    route: str,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Dataset id; default: freeze the feedback.")] = None,
    incumbent: Annotated[str | None, typer.Option("--incumbent", help="Answers last; default: the route now.")] = None,
    rung: Annotated[list[str] | None, typer.Option("--rung", help="A kind to fit; repeat; default: all.")] = None,
    model: Annotated[list[str] | None, typer.Option("--model", help="A version that joins; repeat for more.")] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="accuracy, f1 or attributes (JSON objects).")] = None,
    attributes: Annotated[int, typer.Option("--attributes", min=1, help="attributes: most of an answer.")] = 20,
    label: LabelOption = None,
    positive: PositiveOption = None,
    quality: Annotated[float | None, typer.Option("--quality", help="Score that the best single rung needs.")] = None,
    alpha: Annotated[float, typer.Option("--alpha", min=0, help="Most that may be lost against the incumbent.")] = 0.02,
    delta: Annotated[float, typer.Option("--delta", help="The guarantee holds with probability 1 - delta.")] = 0.1,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="No rung is fitted after this time.")] = 60.0,
    refit: Annotated[bool, typer.Option("--refit", help="Go on from the rungs that the route asks now.")] = False,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    activate: Annotated[bool, typer.Option("--activate/--no-activate", help="Put the route into force.")] = True,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Print events until it has finished.")] = True,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Fit every rung that suits a route, score them, and join them into the cheapest route that loses at most alpha."""
    body: dict[str, Any] = {
        "route": route,
        "dataset": dataset or "(the route's feedback)",
        "incumbent": incumbent,
        "rungs": rung,
        "models": model,
        "metric": metric or ("accuracy" if positive is None else "f1"),
        "attributes": attributes,
        "labels": label,
        "positive": positive,
        "quality": quality,
        "alpha": alpha,
        "delta": delta,
        "seconds": seconds,
        "refit": refit,
        "seed": seed,
        "activate": activate,
    }
    if dry_run:
        change(context, LADDERS.create(body), route, "", as_json=as_json, dry_run=True)
        return
    client = client_of(context)
    if dataset is None:
        body["dataset"] = _freeze(client, route, quiet=as_json)
    if not wait:
        change(context, LADDERS.create(body), route, "{id} is {status}.", as_json=as_json, dry_run=False)
        return
    job = client.send(LADDERS.create(body))
    _show(follow.wait(client, LADDERS, job.id, quiet=as_json), as_json=as_json)


def _freeze(client: Client, route: str, *, quiet: bool) -> str:
    dataset = client.send(create_dataset(DatasetRequest(name=route, route=route)))
    if not quiet:
        counts = ", ".join(f"{split} {count:,}" for split, count in dataset.counts.items())
        sys.stderr.write(f"{dataset.id}: {counts}\n")
    return dataset.id


def _show(job: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a line for each rung, then the route that was made of them, or why none was."""
    result = job.get("result")
    if as_json or not result:
        show_row(job, as_json=as_json)
        return
    show_rows([_line(row, result) for row in result["rungs"]], _COLUMNS, as_json=False)
    sys.stdout.write(f"\n{printable(result['summary'])}\n")
    guarantee = result.get("guarantee")
    if guarantee:
        sys.stdout.write(f"{printable(guarantee['statement'])}\n")
    for model in (result.get("handed_over") or {"models": ()})["models"]:
        sys.stdout.write(f"{printable(model['model'])} {printable(model['reason'])}.\n")


def _line(row: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    quality, share = row["quality"], share_of(row, result)
    return {
        "rung": row["kind"],
        "version": row["version"],
        "n": row["n"] or None,
        "quality": f"{quality['value']:.4f}" if quality else None,
        "interval": f"{quality['low']:.4f} to {quality['high']:.4f}" if quality else None,
        "usd_per_1k": row["usd_per_1k"],
        "ms": row["ms"],
        "fit_s": row["fit_s"],
        "share": None if share is None else f"{share:.0%}",
        "note": note_of(row, result),
    }


def share_of(row: Mapping[str, Any], result: Mapping[str, Any]) -> float | None:
    """Return the part of the calibration items that a rung answers in the proposed route; None: it is not asked."""
    targets = [step["targets"][0]["model"] for step in result["steps"]]
    known = {row["version"], result["incumbent"] if row["kind"] == "incumbent" else None}
    return next((part for target, part in zip(targets, result["shares"], strict=True) if target in known), None)


def note_of(row: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Say what became of a rung: in the route or not, and why."""
    best = "; best single rung" if row["version"] and row["version"] == result["best_single"] else ""
    if row["skipped"]:
        return f"skipped: {row['skipped']}"
    if share_of(row, result) is not None:
        return f"{'answers the rest' if row['kind'] == 'incumbent' else 'kept'}{best}"
    if row["kind"] == "majority":
        return f"baseline: one answer to everything{best}"
    return f"not in the route: it is no cheaper with it{best}" if result["steps"] else best.removeprefix("; ")


@app.command("list")
def list_ladders(context: typer.Context, limit: LimitOption = 20, as_json: AsJson = False) -> None:
    """List ladder jobs, newest first."""
    columns = ("id", "status", "request.route", "result.best_single", "result.applied", "created_at")
    list_rows(context, LADDERS.list({"limit": limit}), columns, as_json=as_json)


@app.command("show")
def show(context: typer.Context, ladder: str, as_json: AsJson = False) -> None:
    """Show one ladder with its rungs and guarantee."""
    _show(client_of(context).send(as_sent(LADDERS.get(ladder))), as_json=as_json)


@app.command("wait")
def wait_for(context: typer.Context, ladder: str, as_json: AsJson = False) -> None:
    """Print a ladder's events until it has finished; exit code 2 when it failed."""
    _show(follow.wait(client_of(context), LADDERS, ladder, quiet=as_json), as_json=as_json)


@app.command("cancel")
def cancel(context: typer.Context, ladder: str, as_json: AsJson = False, dry_run: DryRun = False) -> None:
    """Cancel a ladder; the route stays as it is."""
    change(context, LADDERS.cancel(ladder), ladder, "{id} is {status}.", as_json=as_json, dry_run=dry_run)
