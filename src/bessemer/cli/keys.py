"""`keys`: API keys."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from bessemer.cli.options import AsJson, DryRun, LimitOption, Session, change, list_rows
from bessemer.cli.output import show_change
from bessemer.client import calls
from bessemer.core.access import Role
from bessemer.core.errors import ConfigError
from bessemer.core.settings import load_settings

app = typer.Typer(help="API keys.", no_args_is_help=True)

_DAY_S = 86_400


@app.command("create")
def create(
    context: typer.Context,
    name: str,
    role: Annotated[str, typer.Option("--role", help=f"One of {', '.join(Role)}.")] = "member",
    project: Annotated[str | None, typer.Option("--project", help="Whose key it is; default: your own's.")] = None,
    days: Annotated[float | None, typer.Option("--days", min=0, help="It expires after so many days.")] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="A route or model that it may ask for; may be repeated.")
    ] = None,
    trust: Annotated[float, typer.Option("--trust", min=0, max=1, help="Weight of its feedback.")] = 1.0,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Make a key; it is shown this once."""
    body = {
        "name": name,
        "role": role,
        "project": project,
        "expires_at": None if days is None else time.time() + days * _DAY_S,
        "models": model or None,
        "trust": trust,
    }
    change(context, calls.create_key(body), name, "{id}  {role}  {key}", as_json=as_json, dry_run=dry_run)


@app.command("list")
def list_keys(context: typer.Context, limit: LimitOption = 20, as_json: AsJson = False) -> None:
    """List keys (never their plaintext), newest first."""
    columns = ("id", "name", "role", "project_id", "hint", "created_at", "expires_at", "revoked_at", "last_used_at")
    list_rows(context, calls.list_keys({"limit": limit}), columns, as_json=as_json)


@app.command("revoke")
def revoke(context: typer.Context, key: str, as_json: AsJson = False, dry_run: DryRun = False) -> None:
    """Revoke a key at once."""
    change(context, calls.revoke_key(key), key, f"{key} revoked.", as_json=as_json, dry_run=dry_run)


@app.command("recover")
def recover(
    context: typer.Context,
    settings_file: Annotated[Path | None, typer.Option("--settings", help="TOML file of settings.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a new owner key on this machine, with the data folder alone: for who has lost every other one."""
    from bessemer.identity.admin_key import keep_admin_key
    from bessemer.identity.keys import Keys
    from bessemer.store import audit
    from bessemer.store.database import Database

    session = context.find_object(Session)
    settings = load_settings(settings_file, data=None if session is None else session.data)
    if settings.database_url is None and not settings.data.joinpath("bessemer.db").is_file():
        raise ConfigError(f"There is no database in {str(settings.data)!r}: name the folder with --data.", param="data")
    database = Database.open(settings)
    try:
        with database.transaction():
            created = Keys(database).create("recovered", Role.OWNER)
            path = keep_admin_key(settings.data, created.plaintext)
            audit.append(database, audit.SYSTEM, "api_key.created", created.info.id, {"recovered": True})
    finally:
        database.close()
    shown = f"; shown once: {created.plaintext}" if sys.stdout.isatty() else ""
    detail = {"id": created.info.id, "file": str(path)}
    show_change(created.info.id, detail, f"{created.info.id}  owner, in {path} (mode 600){shown}", as_json=as_json)
