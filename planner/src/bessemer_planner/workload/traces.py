"""Traffic measured: from trace files in four formats, or from any arrays of recorded requests.

Decides which of a workload's traffic fields a recording is long enough to measure; the others stay as declared.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from bessemer_planner.errors import InputError
from bessemer_planner.workload.types import Lengths, Traffic

_MONTH_S = 365.25 / 12 * 86_400
_QUANTILES = 101
_FORMATS = "azure: TIMESTAMP,ContextTokens,GeneratedTokens; burstgpt: Timestamp,Request tokens,Response tokens; \
plain: arrival_s,prompt_tokens,output_tokens; mooncake: JSON lines with timestamp (ms), input_length, output_length"
_COLUMNS = (
    ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    ("Timestamp", "Request tokens", "Response tokens"),
    ("arrival_s", "prompt_tokens", "output_tokens"),
    ("created_at", "input_tokens", "output_tokens"),
)
"""Azure's, BurstGPT's, this project's own, and the names that recorded inferences have."""


class Recorded(msgspec.Struct, frozen=True):
    """Requests in order of arrival; arrays of the same length."""

    arrival_s: np.ndarray
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray
    reused_tokens: int | None = None
    """Prompt tokens whose block had been seen before, when the recording tells."""
    dated: bool = False
    """Arrivals are Unix times, so hours and weekdays (UTC) mean something."""


class Measured(msgspec.Struct, frozen=True):
    """Traffic with what was measured put in, and sentences on what was and what was not."""

    traffic: Traffic
    notes: tuple[str, ...]


def read_trace(path: Path) -> Recorded:
    """Read a trace file. Raises InputError that names the file, the line and the known formats."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(_mooncake(lines) if path.suffix in {".jsonl", ".json"} else _csv(lines))
        return recorded([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows], _reused(rows))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the trace {str(path)!r}: {error}.", param="trace") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, csv.Error) as error:
        raise InputError(
            f"The trace {str(path)!r} has a wrong line: {error}. Known: {_FORMATS}.", param="trace"
        ) from None


_MeasuredRow = tuple[float, int, int, Sequence[int]]
"""Arrival in seconds, prompt tokens, answer tokens, hashes of the prompt's blocks."""


def _mooncake(lines: Iterator[str]) -> Iterator[_MeasuredRow]:
    for line in lines:
        if line.strip():
            row = json.loads(line)
            hashes = row.get("hash_ids", [])
            yield float(row["timestamp"]) / 1000, int(row["input_length"]), int(row["output_length"]), hashes


def _csv(lines: Iterator[str]) -> Iterator[_MeasuredRow]:
    reader = csv.DictReader(lines)
    names = set(reader.fieldnames or ())
    found = next((columns for columns in _COLUMNS if names >= set(columns)), None)
    if found is None:
        raise ValueError(f"unknown columns {', '.join(sorted(names))!r}")
    for row in reader:
        try:
            yield _seconds(row[found[0]]), int(row[found[1]]), int(row[found[2]]), ()
        except (ValueError, TypeError) as error:
            raise ValueError(f"line {reader.line_num}: {error}") from None


def _seconds(text: str) -> float:
    """Return seconds; a date is Unix time, in UTC unless it names its zone."""
    try:
        return float(text)
    except ValueError:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def _reused(rows: Sequence[_MeasuredRow]) -> int | None:
    """Count prompt tokens in blocks seen before: what a cache that never forgets would reuse (512 tokens a block)."""
    if not any(row[3] for row in rows):
        return None
    seen: set[int] = set()
    reused = 0
    for _, prompt, _, hashes in rows:
        known = 0
        for block in hashes:
            if block not in seen:
                break
            known += 1
        reused += min(known * 512, prompt)
        seen.update(hashes)
    return reused


def recorded(
    arrival_s: Sequence[float], prompt_tokens: Sequence[int], output_tokens: Sequence[int], reused: int | None = None
) -> Recorded:
    """Return requests as a recording, sorted by arrival; those without an answer are left out. Raises InputError."""
    arrival = np.asarray(arrival_s, dtype=float)
    prompt, output = np.asarray(prompt_tokens, dtype=np.int64), np.asarray(output_tokens, dtype=np.int64)
    if not np.isfinite(arrival).all():
        raise InputError("The recording has arrivals that are no numbers; give seconds or dates.", param="trace")
    keep = (output > 0) & (prompt > 0)
    if int(keep.sum()) < 2:
        raise InputError("The recording has fewer than two answered requests; record more.", param="trace")
    order = np.argsort(arrival[keep], kind="stable")
    arrival = arrival[keep][order]
    return Recorded(arrival, prompt[keep][order], output[keep][order], reused, dated=bool(arrival[0] > 1e8))


def measure(recording: Recorded, base: Traffic) -> Measured:
    """Return `base` with every field that the recording is long enough to measure."""
    span = float(recording.arrival_s[-1] - recording.arrival_s[0])
    if span <= 0:
        raise InputError("All requests of the recording came at the same time; record longer.", param="trace")
    count = len(recording.arrival_s)
    prompt, output = _lengths(recording.prompt_tokens), _lengths(recording.output_tokens)
    notes = [f"{count:,} recorded requests over {span / 3600:.3g} hours; lengths are theirs."]
    monthly = (count - 1) / span * _MONTH_S
    changes: dict[str, object] = {"prompt_tokens": prompt, "output_tokens": output}
    if span >= 86_400 and recording.dated:
        changes |= {"requests_per_month": monthly, "hours": _hours(recording.arrival_s)}
        notes.append("Requests a month and the shape of the day (UTC) are measured.")
        if span >= 7 * 86_400 and (weekend := _weekend(recording.arrival_s)) is not None:
            changes["weekend"] = weekend
            notes.append("The weekend's share is measured.")
    else:
        notes.append(
            "It is too short to tell the shape of a day: traffic.requests_per_month stays as declared (the "
            f"recording's own pace would be {monthly:,.0f} a month), and so do hours and weekend."
        )
    if recording.reused_tokens is not None:
        share = min(recording.reused_tokens / float(recording.prompt_tokens.sum()), 0.99)
        changes["prefix_share"] = share
        notes.append(f"{share:.1%} of prompt tokens were in blocks seen before: the most that a cache can reuse.")
    return Measured(msgspec.structs.replace(base, **changes), tuple(notes))


def _lengths(values: np.ndarray) -> Lengths:
    quantiles = np.quantile(values, np.linspace(0, 1, _QUANTILES))
    return Lengths(mean=float(values.mean()), quantiles=tuple(float(value) for value in quantiles))


def _hours(arrival_s: np.ndarray) -> tuple[float, ...]:
    counts = np.bincount((arrival_s // 3600).astype(np.int64) % 24, minlength=24).astype(float)
    return tuple(float(value) for value in counts / counts.mean())


def _weekend(arrival_s: np.ndarray) -> float | None:
    """Return requests of a weekend day over those of a weekday, over whole weeks (1 January 1970 was a Thursday)."""
    days = (arrival_s // 86_400).astype(np.int64)
    inside = days[days < days[0] + (days[-1] - days[0] + 1) // 7 * 7]
    weekday = (inside + 3) % 7 < 5
    busy, quiet = float(weekday.sum()) / 5, float((~weekday).sum()) / 2
    return min(quiet / busy, 5.0) if busy else None
