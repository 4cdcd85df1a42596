"""`audit`: who changed what, and what was refused."""

from typing import Annotated

import typer

from bessemer.cli.options import AsJson, LimitOption, list_rows
from bessemer.client import calls

app = typer.Typer(help="The audit trail.", no_args_is_help=True)


@app.command("list")
def list_events(
    context: typer.Context,
    action: Annotated[str | None, typer.Option("--action", help="Such events alone, as route.updated.")] = None,
    actor: Annotated[str | None, typer.Option("--actor", help="Of this key alone, by its id.")] = None,
    since: Annotated[float | None, typer.Option("--since", help="Unix seconds.")] = None,
    until: Annotated[float | None, typer.Option("--until", help="Unix seconds.")] = None,
    limit: LimitOption = 20,
    as_json: AsJson = False,
) -> None:
    """List audit events, newest first."""
    columns = ("created_at", "actor", "action", "subject", "outcome", "id")
    query = {"action": action, "actor": actor, "since": since, "until": until, "limit": limit}
    list_rows(context, calls.list_audit_events(query), columns, as_json=as_json)
