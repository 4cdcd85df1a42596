"""`plan`: what hardware, how much, whose. Runs on this machine; a server is asked for its recorded traffic alone."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from bessemer.cli import plan_new
from bessemer.cli.options import AsJson, DryRun, Session, client_of, save
from bessemer.cli.output import emit, show_change, show_rows
from bessemer.client import calls
from bessemer.core.errors import ConfigError
from bessemer.core.settings import Settings
from bessemer.core.wire import ShownInference

if TYPE_CHECKING:
    from bessemer_planner.catalog import HardwareCatalog
    from bessemer_planner.plan import Plan
    from bessemer_planner.workload import Workload

PRICES_FILE = "prices.csv"
"""In the data folder: what `plan refresh` has read, after the shipped prices."""
_PAGE = 1000
_DEFAULT_OUT = Path("out/plan")


class _FileOrVerb(TyperGroup):
    """`bessemer plan FILE` means `bessemer plan run FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `run` before anything that is no verb and no request for help."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_FileOrVerb,
    help="What hardware, how much, whose, and when. `bessemer plan FILE` plans a workload.",
    no_args_is_help=True,
)


@app.command("run")
def run(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Workload (TOML); `bessemer plan new` writes one.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for plan.json and report.html; default: out/plan.")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option("--trace", help="Measure the traffic from a trace (Azure, BurstGPT, Mooncake, CSV).")
    ] = None,
    route: Annotated[
        str | None, typer.Option("--from-traffic", help="Measure the traffic from a route's recorded inferences.")
    ] = None,
    as_json: AsJson = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the workload in full, and plan nothing.")] = False,
) -> None:
    """Plan a workload: fleet, cost, ownership; also without the verb: `bessemer plan FILE`."""
    from bessemer_planner.workload import read_workload

    workload = read_workload(file)
    if trace is not None and route is not None:
        raise ConfigError("Give either --trace or --from-traffic.", param="trace")
    if trace is not None or route is not None:
        workload = _measured(context, workload, trace, route)
    if dry_run:
        import msgspec

        emit(msgspec.to_builtins(workload))
        return
    from bessemer_planner.plan import make_plan, plan_json
    from bessemer_planner.report import write_plan

    with _progress() as progress:
        plan = make_plan(workload, catalog_of(context), progress)
    folder = out if out is not None or as_json else _DEFAULT_OUT
    if folder is not None:
        write_plan(plan, folder)
    if as_json:
        sys.stdout.buffer.write(plan_json(plan) + b"\n")
    else:
        _show(plan, folder or _DEFAULT_OUT)


def _measured(context: typer.Context, workload: "Workload", trace: Path | None, route: str | None) -> "Workload":
    import msgspec

    from bessemer_planner.workload import check_workload, measure, read_trace, recorded

    if trace is not None:
        recording = read_trace(trace)
    else:
        found_rows = _inferences(context, route or "")
        known = [
            (row.created_at, row.input_tokens, row.output_tokens)
            for row in found_rows
            if row.input_tokens is not None and row.output_tokens is not None
        ]
        recording = recorded(
            [at for at, _, _ in known], [tokens for _, tokens, _ in known], [tokens for _, _, tokens in known]
        )
    found = measure(recording, workload.traffic)
    text = " ".join((workload.description, "Measured:", *found.notes)).strip()
    measured: Workload = msgspec.structs.replace(workload, traffic=found.traffic, description=text)
    check_workload(measured)
    return measured


def _inferences(context: typer.Context, route: str) -> Iterator[ShownInference]:
    """Return a route's recorded inferences, newest first, page by page. Raises ConfigError when there are none."""
    row = None
    for row in client_of(context).each(calls.list_inferences({"route": route, "limit": _PAGE})):
        yield row
    if row is None:
        raise ConfigError(f"The server has recorded no inference of the route {route!r}.", param="from-traffic")


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Tell on a terminal what is being done; say nothing to programs."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status("planning") as status:
        yield status.update


def catalog_of(context: typer.Context) -> "HardwareCatalog":
    """Return the shipped catalogue with the prices that `plan refresh` has read."""
    from bessemer_planner.catalog import load_catalog, read_price_file

    return load_catalog(read_price_file(_prices_path(context)))


def _prices_path(context: typer.Context) -> Path:
    session = context.find_object(Session)
    return (session.data if session is not None and session.data else Settings().data) / PRICES_FILE


def _show(plan: "Plan", folder: Path) -> None:
    sys.stdout.write(plan.recommendation + "\n\n")
    rows = [
        {
            "units": one.units,
            "instance": one.instance,
            "term": one.term,
            "USD/h": one.usd_per_hour,
            "USD/month": round(one.usd_per_month),
            "price of": one.price_date,
        }
        for one in plan.fleet.purchases
    ]
    rows += [
        {"instance": f"{one.instance}, for {one.name}", "term": one.term, "USD/month": round(one.usd_per_month)}
        for one in plan.fleet.bookings
        if one.usd_per_month >= 1
    ]
    show_rows(rows, ("units", "instance", "term", "USD/h", "USD/month", "price of"), as_json=False)
    sys.stdout.write("\n")
    owners = [
        {
            "owner": one.name,
            "possible": "yes" if one.feasible else "no",
            "present cost P50": None if one.money is None else round(one.money.present_cost_usd.value),
            "P10": None if one.money is None else round(one.money.present_cost_usd.low),
            "P90": None if one.money is None else round(one.money.present_cost_usd.high),
            "months to first token": round(float(one.speed.months.value), 1),
        }
        for one in plan.ownership
    ]
    columns = ("owner", "possible", "present cost P50", "P10", "P90", "months to first token")
    show_rows(owners, columns, as_json=False)
    for text in plan.warnings:
        sys.stdout.write(f"\nMind: {text}")
    sys.stdout.write(f"\n\n{folder / 'report.html'}\n{folder / 'plan.json'}\n")


@app.command("report")
def report(
    context: typer.Context,
    plan: Annotated[str, typer.Argument(help="Id of a plan that the server has made.")],
    to: Annotated[Path, typer.Option("--to", help="File to write.")] = Path("plan.html"),
) -> None:
    """Save the page of a plan that the server has made; open it in any browser."""
    save(context, calls.plan_report(plan), to)


@app.command("check")
def check(context: typer.Context, as_json: AsJson = False) -> None:
    """Check published claims about AI hardware and its economics: claim, what we compute, whether it holds."""
    import msgspec

    from bessemer_planner.claims import check_claims
    from bessemer_planner.performance import Performance

    with _progress() as progress:
        progress("checking claims")
        claims = check_claims(catalog_of(context), Performance.load())
    if as_json:
        show_rows([msgspec.to_builtins(one, enc_hook=float) for one in claims], (), as_json=True)
        return
    for one in claims:
        sys.stdout.write(f"{one.number}  {one.verdict.value.upper()}  {one.claim}\n")
        for figure in one.computed:
            bounds = "" if figure.low is None or figure.high is None else f"  ({figure.low:.4g} to {figure.high:.4g})"
            sys.stdout.write(f"      {figure.name}: {figure.value:,.4g} {figure.unit}{bounds}\n")
        condition = f" If {one.condition}." if one.condition else ""
        sys.stdout.write(f"      {one.explanation}{condition}\n\n")


@app.command("evaluate")
def evaluate(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Measurements: CSV with the columns of silicon_sample.csv.")],
    leave_out: Annotated[
        str | None, typer.Option("--leave-out", help="Refit without each (model, GPU) `group`, or without each `gpu`.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare predictions with measurements: errors, interval coverage and ranks per GPU, model and framework."""
    import msgspec

    from bessemer_planner.performance.evaluate import evaluate as with_shipped
    from bessemer_planner.performance.evaluate import evaluate_held_out

    if leave_out not in {None, "group", "gpu"}:
        raise ConfigError(f"--leave-out is {leave_out!r}; give group or gpu.", param="leave-out")
    catalog = catalog_of(context)
    accelerators, aliases = dict(catalog.accelerators), catalog.aliases
    with _progress() as progress:
        if leave_out is None:
            found = with_shipped(file, accelerators, aliases=aliases)
        else:
            found = evaluate_held_out(
                file, accelerators, leave_out, lambda group: progress(f"without {group}"), aliases=aliases
            )
    if as_json:
        emit(msgspec.to_builtins(found, enc_hook=float))
        return
    sys.stdout.write(
        f"{found.rows} rows, {found.how}: TPOT MAPE {_told(found.tpot_mape, '.1f')} %, TTFT median error "
        f"{_told(found.ttft_median_error, '.1f')} %, 80 % intervals cover {_told(found.interval_coverage_80, '.0f')} % "
        f"of TPOT, rank correlation of throughput {_told(found.throughput_rank_correlation, '.3f')}\n"
    )
    if found.disaggregated is not None:
        apart = found.disaggregated
        sys.stdout.write(
            f"{apart.rows} disaggregated rows beside them: TPOT MAPE {apart.tpot_mape:.1f} %, TTFT median error "
            f"{apart.ttft_median:.1f} %\n"
        )
    sys.stdout.write("\n")
    rows = [
        {"by": by, "what": name, "rows": one.rows, "TPOT MAPE": one.tpot_mape, "TTFT median": one.ttft_median}
        for by, scores in (("GPU", found.by_gpu), ("model", found.by_model), ("framework", found.by_framework))
        for name, one in scores.items()
    ]
    show_rows(rows, ("by", "what", "rows", "TPOT MAPE", "TTFT median"), as_json=False)
    for bad in found.bad_rows:
        sys.stdout.write(f"left out: {bad.id}: {bad.reason}\n")


def _told(value: float | None, how: str) -> str:
    return "-" if value is None else format(value, how)


@app.command("refresh")
def refresh(context: typer.Context, as_json: AsJson = False, dry_run: DryRun = False) -> None:
    """Read the vendors' public price files and append what is new to the data folder's prices."""
    from bessemer.cli.plan_refresh import fetch_prices
    from bessemer_planner.catalog import read_price_file, write_prices
    from bessemer_planner.catalog.refresh import feeds

    catalog, path = catalog_of(context), _prices_path(context)
    if dry_run:
        show_change(str(path), [feed.url for feed in feeds(catalog)], "", as_json=as_json, dry_run=True)
        return
    with _progress() as progress:
        read, failed = fetch_prices(catalog, progress)
    after = catalog.with_prices(catalog.unseen(read))
    new = after.history[len(catalog.history) :]
    if new:
        text = write_prices((*read_price_file(path), *new))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    sentence = f"{len(new)} new prices in {path}; {len(failed)} files could not be read."
    show_change(str(path), {"read": len(read), "new": len(new), "failed": failed}, sentence, as_json=as_json)
    if failed and not read:
        raise ConfigError(f"No price file could be read; the first: {next(iter(failed.values()))}", param="refresh")


app.command("new")(plan_new.new)
