"""The options that name a metric, shared by `eval` and `cascade`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bessemer.cli.options import read_json

MetricType = Annotated[str, typer.Option("--metric", help="label_accuracy, label_f1, attribute_f1 or grader.")]
Label = Annotated[list[str] | None, typer.Option("--label", help="A possible answer; repeat for all of them.")]
Positive = Annotated[str | None, typer.Option("--positive", help="label_f1: the positive label.")]
Grader = Annotated[Path | None, typer.Option("--grader", help="JSON file of the grader, for --metric grader.")]


def metric_of(kind: str, labels: list[str] | None, positive: str | None, grader: Path | None) -> dict[str, Any]:
    """Return the metric's request body; the server checks that its parts fit together."""
    values = {
        "labels": labels,
        "positive": positive,
        "grader": None if grader is None else read_json(grader, "the grader"),
    }
    return {"type": kind, **{name: value for name, value in values.items() if value is not None}}
