"""The lines of a batch's file: checked before any is asked, read one after the other, answered in OpenAI's form."""

import re
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Final, NamedTuple

import msgspec

from bessemer.core.errors import BessemerError, InvalidRequest
from bessemer.core.ids import new_id
from bessemer.core.openai_batches import BatchAnswer, BatchLine, BatchResponse, LineFault
from bessemer.dialects import DIALECTS
from bessemer.dialects.base import Dialect

MOST_LINES: Final = 50_000
LARGEST_BYTES: Final = 200 * 1024 * 1024
LONGEST_LINE: Final = 16 * 1024 * 1024
MOST_FAULTS: Final = 100
"""Of a file that are told."""
ENDPOINTS: Final[Mapping[str, Dialect]] = {dialect.path: dialect for dialect in DIALECTS}
_WINDOW = re.compile(r"([1-9][0-9]{0,5})([mhd])")
_UNITS: Final = {"m": 60, "h": 3600, "d": 86_400}
_LONGEST_WINDOW_S: Final = 30 * 86_400
_LONGEST_ID: Final = 512
_decode = msgspec.json.Decoder(BatchLine).decode


class NumberedLine(NamedTuple):
    """A line that can be asked."""

    number: int
    """From 1."""
    custom_id: str
    body: dict[str, object]


def window_seconds(text: str) -> int:
    """Return the seconds of a completion window. Raises InvalidRequest."""
    found = _WINDOW.fullmatch(text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 60 <= seconds <= _LONGEST_WINDOW_S:
        raise InvalidRequest(
            f"'completion_window' is '24h', or another time from '1m' to '30d', not {text!r}.",
            param="completion_window",
        )
    return seconds


def dialect_of(endpoint: str) -> Dialect:
    """Return the dialect that a batch's requests are in. Raises InvalidRequest."""
    if endpoint not in ENDPOINTS:
        raise InvalidRequest(
            f"'endpoint' must be one of {', '.join(sorted(ENDPOINTS))}, not {endpoint!r}.", param="endpoint"
        )
    return ENDPOINTS[endpoint]


def check(content: BinaryIO, endpoint: str) -> tuple[int, list[LineFault]]:
    """Return how many requests a file has, and what is wrong with it. Reads it once; memory by its ids."""
    faults: list[LineFault] = []
    seen: dict[str, int] = {}
    count = 0
    for number, raw in _raw_lines(content):
        count += 1
        if count > MOST_LINES:
            faults.append(LineFault("too_many_requests", f"A batch has at most {MOST_LINES} requests; split the file."))
            break
        fault = _fault(number, raw, endpoint, seen)
        if fault is not None:
            faults.append(fault)
            if len(faults) >= MOST_FAULTS:
                break
    if not count:
        faults.append(LineFault("empty_file", "The file has no requests."))
    return count, faults


def _raw_lines(content: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = 0
    while raw := content.readline(LONGEST_LINE + 1):
        number += 1
        if raw.strip():
            yield number, raw


def _fault(number: int, raw: bytes, endpoint: str, seen: dict[str, int]) -> LineFault | None:
    if len(raw) > LONGEST_LINE:
        return LineFault("line_too_long", f"A line has at most {LONGEST_LINE} bytes.", number)
    try:
        line = _decode(raw)
    except msgspec.ValidationError as error:
        return LineFault("invalid_request", f"The line is no request: {error}.", number)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return LineFault("invalid_json_line", "The line is not valid JSON.", number)
    return _wrong(number, line, endpoint, seen)


def _wrong(number: int, line: BatchLine, endpoint: str, seen: dict[str, int]) -> LineFault | None:
    if line.method != "POST":
        return LineFault("invalid_method", f"'method' must be 'POST', not {line.method[:20]!r}.", number, "method")
    if line.url != endpoint:
        told = f"'url' must be the batch's endpoint {endpoint!r}, not {line.url[:80]!r}."
        return LineFault("mismatched_endpoint", told, number, "url")
    if not 1 <= len(line.custom_id) <= _LONGEST_ID:
        return LineFault("invalid_custom_id", f"'custom_id' has 1 to {_LONGEST_ID} characters.", number, "custom_id")
    if line.custom_id in seen:
        told = f"'custom_id' is that of line {seen[line.custom_id]} as well; each needs its own."
        return LineFault("duplicate_custom_id", told, number, "custom_id")
    seen[line.custom_id] = number
    return None


def requests(content: BinaryIO) -> Iterator[NumberedLine]:
    """Yield the requests of a checked file."""
    for number, raw in _raw_lines(content):
        line = _decode(raw)
        yield NumberedLine(number, line.custom_id, line.body)


def answered(line: NumberedLine, body: object) -> BatchAnswer:
    """Return the line of an answer."""
    return BatchAnswer(
        id=new_id("batch_req"),
        custom_id=line.custom_id,
        response=BatchResponse(status_code=200, request_id=new_id("req"), body=body),
    )


def refused(line: NumberedLine, error: BessemerError, dialect: Dialect) -> BatchAnswer:
    """Return the line of a request that failed: with the status and body that it would have had by itself."""
    return BatchAnswer(
        id=new_id("batch_req"),
        custom_id=line.custom_id,
        response=BatchResponse(status_code=error.status, request_id=new_id("req"), body=dialect.error(error)),
    )


def never_asked(line: NumberedLine, code: str, message: str) -> BatchAnswer:
    """Return the line of a request that was not asked any more."""
    return BatchAnswer(id=new_id("batch_req"), custom_id=line.custom_id, error={"code": code, "message": message})
