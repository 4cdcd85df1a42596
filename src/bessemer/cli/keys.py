"""`keys`: API keys."""

from typing import Annotated

import typer

from bessemer.cli.client import segment
from bessemer.cli.options import AsJson, DryRun, change, list_rows

app = typer.Typer(help="API keys.", no_args_is_help=True)


@app.command("create")
def create(
    context: typer.Context,
    name: str,
    role: Annotated[
        str, typer.Option("--role", help="viewer, app, member, operator, approver, auditor or owner.")
    ] = "member",
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Make a key; it is shown this once."""
    body = {"name": name, "role": role}
    change(context, "POST", "/v1/keys", body, name, "{id}  {role}  {key}", as_json=as_json, dry_run=dry_run)


@app.command("list")
def list_keys(context: typer.Context, as_json: AsJson = False) -> None:
    """List keys (never their plaintext)."""
    list_rows(context, "/v1/keys", ("id", "name", "role", "hint", "created_at", "revoked_at"), {}, as_json=as_json)


@app.command("revoke")
def revoke(context: typer.Context, key: str, as_json: AsJson = False, dry_run: DryRun = False) -> None:
    """Revoke a key at once."""
    path = f"/v1/keys/{segment(key)}"
    change(context, "DELETE", path, None, key, f"{key} revoked.", as_json=as_json, dry_run=dry_run)
