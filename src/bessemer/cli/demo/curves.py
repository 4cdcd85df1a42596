"""Charts of a fine-tuning job's metrics events."""

from collections.abc import Iterable, Mapping, Sequence

from bessemer.core.openai import FineTuningEvent
from bessemer_planner.pages import LineChart, Series

_LOSSES = ("loss",)
_SCORES = ("reward", "score", "f1")


def training_curves(events: Mapping[str, Sequence[FineTuningEvent]]) -> Iterable[LineChart]:
    """Return a chart of losses and one of scores for each job, from its metrics events.

    Of lines that coincide the first is drawn. A line of many steps is a running mean, and says so.
    """
    for job, rows in events.items():
        series: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            data = row.data or {}
            step = data.get("step")
            if row.type != "metrics" or not isinstance(step, int | float):
                continue
            for key, value in data.items():
                if key != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                    series.setdefault(key, []).append((float(step), float(value)))
        for label, words in (("loss", _LOSSES), ("reward and score", _SCORES)):
            lines: dict[tuple[tuple[float, float], ...], Series] = {}
            for name, points in series.items():
                if any(word in name for word in words) and "share" not in name:
                    lines.setdefault(tuple(points), _smooth(name.replace("_", " "), points))
            if lines:
                yield LineChart(title=f"{job}: {label}", x_label="step", y_label=label, series=tuple(lines.values()))


def _smooth(name: str, points: Sequence[tuple[float, float]]) -> Series:
    window = len(points) // 20
    if window < 2:
        return Series(name=name, points=tuple(points), marks="valid" in name)
    means = []
    for end in range(len(points)):
        part = points[max(0, end - window + 1) : end + 1]
        means.append((points[end][0], sum(value for _, value in part) / len(part)))
    return Series(name=f"{name} (mean of {window} steps)", points=tuple(means))
