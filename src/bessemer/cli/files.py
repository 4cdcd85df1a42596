"""`files`: training files."""

from pathlib import Path
from typing import Annotated

import typer

from bessemer.cli.options import AsJson, DryRun, LimitOption, change, client_of, list_rows, save
from bessemer.cli.output import show_change
from bessemer.client import as_sent, calls

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
    answer = client_of(context).send(as_sent(calls.upload_file(file, purpose)))
    show_change(answer["id"], answer, f"{answer['id']}  {answer['bytes']} bytes", as_json=as_json)


@app.command("list")
def list_files(context: typer.Context, limit: LimitOption = 100, as_json: AsJson = False) -> None:
    """List files, newest first."""
    columns = ("id", "filename", "purpose", "bytes", "created_at")
    list_rows(context, calls.list_files({"limit": limit}), columns, as_json=as_json)


@app.command("content")
def content(
    context: typer.Context,
    file_id: str,
    to: Annotated[Path | None, typer.Option("--to", help="File to write; default: standard output.")] = None,
) -> None:
    """Print what a file holds, or write it to another."""
    save(context, calls.file_content(file_id), to)


@app.command("delete")
def delete(context: typer.Context, file_id: str, as_json: AsJson = False, dry_run: DryRun = False) -> None:
    """Delete a file."""
    change(context, calls.delete_file(file_id), file_id, f"{file_id} deleted.", as_json=as_json, dry_run=dry_run)
