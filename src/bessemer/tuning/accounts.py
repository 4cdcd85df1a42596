"""What a run says of itself: metrics under the names that clients know, and sentences. Pure functions."""

from collections.abc import Mapping

from bessemer.core.types import JSON
from bessemer.tuning.comparison import CheckpointComparison
from bessemer.tuning.progress import Start
from bessemer.tuning.spec import StepReport, Validation


def valid_metrics(validation: Validation) -> JSON:
    """Return an evaluation as metrics, under the names that start with `valid_`; what is not known is left out."""
    low, high = validation.reward_bounds or (None, None)
    found = {
        "valid_score": validation.score,
        "valid_loss": validation.loss,
        "valid_reward": validation.mean_reward,
        "valid_reward_low": None if low == high else low,
        "valid_reward_high": None if low == high else high,
        "valid_unknown": validation.unknown or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def step_metrics(report: StepReport) -> JSON:
    """Return what a step measured, its evaluation included."""
    return dict(report.metrics) | ({} if report.validation is None else valid_metrics(report.validation))


def headline(metrics: Mapping[str, float], validation: Validation | None) -> list[str]:
    """Return the numbers that a person looks for: the reward before the loss, where there are rewards."""
    shown = {"reward_mean": "reward", "train_loss": "loss"}
    facts = [f"{name} {metrics[key]:.3f}" for key, name in shown.items() if key in metrics]
    if validation is None:
        return facts
    unjudged = f" ({validation.unknown} answers that nobody judged)" if validation.unknown else ""
    if validation.mean_reward is not None:
        facts.append(f"validation reward {validation.mean_reward:.3f}{unjudged}")
    elif validation.reward_bounds is not None:
        low, high = validation.reward_bounds
        facts.append(f"validation reward {low:.3f} to {high:.3f}{unjudged}")
    elif validation.loss is not None:
        facts.append(f"validation loss {validation.loss:.3f}")
    return facts


def duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def warning_of(best: Validation | None, start: Start | None, comparison: CheckpointComparison | None) -> str | None:
    """Return what must be said of the version that a run made; None when it is better than its start."""
    if start is None:
        return "No validation rows: whether this version is better than its start is not known."
    if best is None or start.validation.score is None:
        return "The validation rows could not be scored: whether this version is better than its start is not known."
    before = f"the start's {start.validation.score:.4g} on {len(start.rows)} validation rows"
    if best.step == 0:
        return f"No checkpoint scored above {before}: this version answers as the start does."
    if comparison is None:
        return f"The score of step {best.step}, {best.score:.4g}, could not be compared with {before}."
    if comparison.better:
        return None
    return (
        f"No better than the start is not excluded: step {best.step} scores {best.score:.4g}, {before}; difference "
        f"{comparison.difference:+.4g} [{comparison.low:+.4g}, {comparison.high:+.4g}] at {comparison.level:.4g}, "
        f"{comparison.changed} rows differ."
    )
