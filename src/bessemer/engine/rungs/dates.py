"""Dates as records hold them, in the precision that each has, and how far apart two of them are."""

import re
from datetime import date
from typing import NamedTuple

NAN = float("nan")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAME = rf"({'|'.join(_MONTHS)})[a-z]*\.?"
_YEAR, _TWO = r"([12]\d{3})", r"(\d{1,2})"
_FORMS = tuple(
    (re.compile(pattern), order)
    for pattern, order in (
        (rf"{_YEAR}-{_TWO}-{_TWO}(?:[t ]\d.*)?|{_YEAR}/{_TWO}/{_TWO}", "ymd"),
        (rf"{_TWO}\.\s?{_TWO}\.\s?{_YEAR}", "dmy"),
        (rf"{_TWO}[/-]{_TWO}[/-]{_YEAR}", "mdy"),
        (rf"{_TWO}(?:st|nd|rd|th)?\.? {_NAME},? {_YEAR}", "dmy"),
        (rf"{_NAME} {_TWO}(?:st|nd|rd|th)?,? {_YEAR}", "mdy"),
        (rf"{_NAME},? {_YEAR}", "my"),
        (rf"{_YEAR}[-/]{_TWO}", "ym"),
        (rf"{_TWO}/{_YEAR}", "my"),
        (_YEAR, "y"),
    )
)
"""Spellings, and the order of their parts. Of `3/4/2021` the first is the month, unless it is above 12."""


class PartialDate(NamedTuple):
    """A date as far as it is told."""

    year: int
    month: int | None = None
    day: int | None = None


def date_of(text: str) -> PartialDate | None:
    """Return the date that a text in lower case is; None when it is none."""
    for pattern, order in _FORMS:
        found = pattern.fullmatch(text.strip())
        if found is not None:
            parts = dict(zip(order, (part for part in found.groups() if part is not None), strict=False))
            return _checked(*(_number(parts.get(name)) for name in "ymd"))
    return None


def _number(part: str | None) -> int | None:
    if part is None:
        return None
    return int(part) if part.isdigit() else _MONTHS.index(part) + 1


def _checked(year: int | None, month: int | None, day: int | None) -> PartialDate | None:
    if year is None:
        return None
    if month is not None and day is not None and month > 12 >= day:
        month, day = day, month
    try:
        date(year, month or 1, day or 1)
    except ValueError:
        return None
    return PartialDate(year, month, day)


DATE_FEATURES = ("days_apart", "months_apart", "years_apart", "same_year", "same_month", "same_day")


def compare_dates(a: str, b: str) -> list[float]:
    """Return DATE_FEATURES of two texts; NaN where either is no date, or is not told as precisely."""
    x, y = date_of(a), date_of(b)
    if x is None or y is None:
        return [NAN] * len(DATE_FEATURES)
    years = float(abs(x.year - y.year))
    months = days = same_month = same_day = NAN
    if x.month is not None and y.month is not None:
        months = float(abs(12 * (x.year - y.year) + x.month - y.month))
        same_month = float(x.month == y.month)
        if x.day is not None and y.day is not None:
            days = float(abs((date(x.year, x.month, x.day) - date(y.year, y.month, y.day)).days))
            same_day = float(x.day == y.day)
    return [days, months, years, float(years == 0), same_month, same_day]
