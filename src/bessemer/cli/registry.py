"""`models`, `versions`, `routes`, `promote`, `rollback`, `usage`: what is served, and what is moved."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bessemer.cli.options import AsJson, DryRun, LimitOption, Reason, change, list_rows, read_object, save, show_one
from bessemer.client import calls
from bessemer.core.errors import ConfigError

models = typer.Typer(help="Everything a client may write in `model`.", no_args_is_help=True)
versions = typer.Typer(help="Immutable versions of models.", no_args_is_help=True)
routes = typer.Typer(help="Routes: how a request is answered.", no_args_is_help=True)

ModelFilter = Annotated[str | None, typer.Option("--model", help="Versions of this model alone.")]


def register(app: typer.Typer) -> None:
    """Add the groups and verbs to the command line."""
    app.add_typer(models, name="models")
    app.add_typer(versions, name="versions")
    app.add_typer(routes, name="routes")
    app.command()(promote)
    app.command()(rollback)
    app.command()(usage)


@models.command("list")
def list_models(context: typer.Context, as_json: AsJson = False) -> None:
    """List routes, models, aliases and versions."""
    list_rows(context, calls.list_models(), ("id", "owned_by", "created"), as_json=as_json)


@models.command("show")
def show_model(context: typer.Context, name: str, as_json: AsJson = False) -> None:
    """Show one of them."""
    show_one(context, calls.get_model(name), as_json=as_json)


@versions.command("list")
def list_versions(
    context: typer.Context, model: ModelFilter = None, limit: LimitOption = 20, as_json: AsJson = False
) -> None:
    """List versions, newest first."""
    columns = ("id", "model", "created_at", "lineage.base", "lineage.job_id")
    list_rows(context, calls.list_versions({"model": model, "limit": limit}), columns, as_json=as_json)


@versions.command("show")
def show_version(context: typer.Context, version: str, as_json: AsJson = False) -> None:
    """Show one version with its lineage."""
    show_one(context, calls.get_version(version), as_json=as_json)


@versions.command("export")
def export_version(
    context: typer.Context,
    version: str,
    to: Annotated[Path, typer.Option("--to", help="Tar file to write.")],
) -> None:
    """Write a tuned version's adapter as a tar of a peft folder, which other tools load, or a rung's two files."""
    save(context, calls.version_adapter(version), to)


@versions.command("aliases")
def list_aliases(
    context: typer.Context, model: ModelFilter = None, limit: LimitOption = 20, as_json: AsJson = False
) -> None:
    """List aliases and the versions they name."""
    columns = ("model", "name", "version", "moved_at", "reason")
    list_rows(context, calls.list_aliases({"model": model, "limit": limit}), columns, as_json=as_json)


@routes.command("list")
def list_routes(context: typer.Context, limit: LimitOption = 20, as_json: AsJson = False) -> None:
    """List routes."""
    columns = ("name", "steps", "guarantee.statement")
    list_rows(context, calls.list_routes({"limit": limit}), columns, as_json=as_json)


@routes.command("show")
def show_route(context: typer.Context, name: str, as_json: AsJson = False) -> None:
    """Show one route."""
    show_one(context, calls.get_route(name), as_json=as_json)


@routes.command("monitor")
def monitor_route(context: typer.Context, name: str, as_json: AsJson = False) -> None:
    """Show what audited requests say of a route's rungs, and how far alarms made it step back."""
    show_one(context, calls.route_monitor(name), as_json=as_json)


@routes.command("put")
def put_route(
    context: typer.Context,
    name: str,
    target: Annotated[
        list[str] | None, typer.Option("--target", help="A model, alias or version; repeat to split.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="JSON file of the whole route instead.")] = None,
    reason: Reason = "",
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Write a route; it wins over the configuration file's until it is rolled back."""
    if (file is None) == (not target):
        raise ConfigError("Give either --target or --file.", param="target")
    body: dict[str, Any] = {"targets": target} if file is None else read_object(file, "the route")
    body |= {"reason": reason}
    change(context, calls.put_route(name, body), name, f"Route {name} written.", as_json=as_json, dry_run=dry_run)


@routes.command("rollback")
def rollback_route(
    context: typer.Context,
    name: str,
    reason: Reason = "",
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Put back what a route was before its last change."""
    operation = calls.rollback_route(name, {"reason": reason})
    change(context, operation, name, f"Route {name} rolled back.", as_json=as_json, dry_run=dry_run)


def promote(
    context: typer.Context,
    version: str,
    alias: Annotated[str, typer.Option("--alias", help="challenger or champion.")] = "champion",
    evaluation: Annotated[
        str | None, typer.Option("--evaluation", help="Whose gate it passed; default: the newest.")
    ] = None,
    reason: Reason = "",
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Move an alias to a version; `champion` needs a passed gate."""
    body = {"alias": alias, "evaluation": evaluation, "reason": reason}
    change(
        context,
        calls.promote(version, body),
        version,
        f"{alias} now names {version}.",
        as_json=as_json,
        dry_run=dry_run,
    )


def rollback(
    context: typer.Context,
    model: str,
    alias: Annotated[str, typer.Option("--alias")] = "champion",
    reason: Reason = "",
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Move a model's alias back to what it named before (routes: `bessemer routes rollback`)."""
    body = {"alias": alias, "reason": reason}
    change(
        context,
        calls.rollback_alias(model, body),
        model,
        f"{model}:{alias} rolled back.",
        as_json=as_json,
        dry_run=dry_run,
    )


def usage(
    context: typer.Context,
    by: Annotated[str, typer.Option("--by", help="Of route, version, model, provider, key, project.")] = (
        "route,version,provider"
    ),
    route: Annotated[str | None, typer.Option("--route")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Name of a tag: a row for each value.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show requests, calls, tokens, cost and seconds by route, model, key or tag."""
    told = {"key": "key_id", "project": "project_id"}
    parts = tuple(told.get(name.strip(), name.strip()) for name in by.split(",")) + (("tag",) if tag else ())
    columns = (*parts, "requests", "calls", "input_tokens", "output_tokens", "cost_usd", "unpriced_calls", "saved_usd")
    list_rows(context, calls.usage({"by": by, "route": route, "tag": tag}), columns, as_json=as_json)
