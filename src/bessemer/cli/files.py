"""`files`: training files."""

from pathlib import Path
from typing import Annotated

import typer

from bessemer.cli.client import segment
from bessemer.cli.options import AsJson, DryRun, Limit, change, client_of, list_rows, save
from bessemer.cli.output import show_change

app = typer.Typer(help="Uploaded files.", no_args_is_help=True)


@app.command("upload")
def upload(
    context: typer.Context,
    file: Path,
    purpose: Annotated[str, typer.Option("--purpose")] = "fine-tune",
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Upload a file of training rows (JSON Lines)."""
    if dry_run:
        show_change(str(file), {"file": str(file), "purpose": purpose}, "", as_json=as_json, dry_run=True)
        return
    answer = client_of(context).upload(file, purpose)
    show_change(answer["id"], answer, f"{answer['id']}  {answer['bytes']} bytes", as_json=as_json)


@app.command("list")
def list_files(context: typer.Context, limit: Limit = 100, as_json: AsJson = False) -> None:
    """List files, newest first."""
    columns = ("id", "filename", "purpose", "bytes", "created_at")
    list_rows(context, "/v1/files", columns, {"limit": limit}, as_json=as_json)


@app.command("content")
def content(
    context: typer.Context,
    file_id: str,
    to: Annotated[Path | None, typer.Option("--to", help="File to write; default: standard output.")] = None,
) -> None:
    """Print what a file holds, or write it to another."""
    save(client_of(context).download(f"/v1/files/{segment(file_id)}/content"), to)


@app.command("delete")
def delete(context: typer.Context, file_id: str, as_json: AsJson = False, dry_run: DryRun = False) -> None:
    """Delete a file."""
    path = f"/v1/files/{segment(file_id)}"
    change(context, "DELETE", path, None, file_id, f"{file_id} deleted.", as_json=as_json, dry_run=dry_run)
