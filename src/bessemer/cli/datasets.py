"""`dataset`: frozen datasets."""

from pathlib import Path
from typing import Annotated

import typer

from bessemer.cli.options import AsJson, DryRun, LimitOption, change, client_of, list_rows, show_one
from bessemer.client import calls
from bessemer.core.errors import ConfigError
from bessemer.core.types import JSON

app = typer.Typer(help="Frozen, content-hashed datasets.", no_args_is_help=True)


@app.command("build")
def build(
    context: typer.Context,
    name: str,
    route: Annotated[str | None, typer.Option("--route", help="Inferences of this route alone.")] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Prompt that renders structured input.")] = None,
    split: Annotated[
        list[str] | None, typer.Option("--split", help="e.g. train=0.7; all of them must sum to 1.")
    ] = None,
    metric: Annotated[str, typer.Option("--metric", help="The boolean feedback that is the verdict.")] = "verdict",
    supervised: Annotated[bool, typer.Option("--supervised", help="Files end in the demonstration.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Examples at most.")] = None,
    salt: Annotated[str, typer.Option("--salt", help="Another salt gives other splits.")] = "",
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Freeze inferences and their feedback into a dataset, split by hash of the input."""
    body = {
        "name": name,
        "route": route,
        "prompt": prompt,
        "splits": dict(_split(text) for text in split) if split else None,
        "metric": metric,
        "supervised": supervised,
        "limit": limit,
        "salt": salt,
    }
    change(context, calls.create_dataset(body), name, "{id}  {counts}", as_json=as_json, dry_run=dry_run)


@app.command("import")
def import_file(
    context: typer.Context,
    file: Path,
    name: Annotated[str, typer.Option("--name", help="Name of the dataset.")],
    split: Annotated[
        list[str] | None, typer.Option("--split", help="e.g. train=0.7; all of them must sum to 1.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", help="Field with the right answer; default: reference_answer.")
    ] = None,
    salt: Annotated[str, typer.Option("--salt", help="Another salt gives other splits.")] = "",
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Upload a training file and freeze its rows into a dataset; a row's field `split` wins over the hash."""
    splits = dict(_split(text) for text in split) if split else None
    body: JSON = {"name": name, "reference": reference, "splits": splits, "salt": salt}
    if not dry_run:
        body["file_id"] = client_of(context).send(calls.upload_file(file)).id
    change(context, calls.create_dataset(body), name, "{id}  {counts}", as_json=as_json, dry_run=dry_run)


def _split(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    try:
        return name, float(share)
    except ValueError:
        raise ConfigError(f"{text!r} is not split=share, e.g. train=0.7.", param="split") from None


@app.command("list")
def list_datasets(context: typer.Context, limit: LimitOption = 20, as_json: AsJson = False) -> None:
    """List datasets, newest first."""
    columns = ("id", "name", "counts", "sha256", "created_at")
    list_rows(context, calls.list_datasets({"limit": limit}), columns, as_json=as_json)


@app.command("show")
def show(context: typer.Context, dataset: str, as_json: AsJson = False) -> None:
    """Show one dataset: counts, files, provenance."""
    show_one(context, calls.get_dataset(dataset), as_json=as_json)


@app.command()
def approve(context: typer.Context, dataset: str, as_json: AsJson = False, dry_run: DryRun = False) -> None:
    """Let gates stand on a dataset that a key built which may neither operate nor approve."""
    change(context, calls.approve_dataset(dataset), dataset, "{id}  approved", as_json=as_json, dry_run=dry_run)


@app.command()
def delete(context: typer.Context, dataset: str, as_json: AsJson = False, dry_run: DryRun = False) -> None:
    """Delete a dataset with its rows and its files; what was made of it stays."""
    change(context, calls.delete_dataset(dataset), dataset, f"{dataset} deleted.", as_json=as_json, dry_run=dry_run)
