"""The options that name a metric, shared by `eval` and `cascade`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bessemer.cli.options import read_object

MetricType = Annotated[str, typer.Option("--metric", help="accuracy, f1, attributes or reward.")]
LabelOption = Annotated[list[str] | None, typer.Option("--label", help="A possible answer; repeat for all of them.")]
PositiveOption = Annotated[str | None, typer.Option("--positive", help="f1: the positive label.")]
GraderOption = Annotated[Path | None, typer.Option("--grader", help="JSON file of the grader, for --metric reward.")]


def metric_of(kind: str, labels: list[str] | None, positive: str | None, grader: Path | None) -> dict[str, Any]:
    """Return the metric's request fields; the server checks that they fit together."""
    return {
        "metric": kind,
        "labels": labels,
        "positive": positive,
        "grader": None if grader is None else read_object(grader, "the grader"),
    }
