"""Dates in the spellings of catalogues, compared in the precision that both sides have."""

import math

import pytest

from bessemer.engine.rungs.dates import DATE_FEATURES, compare_dates, date_of
from bessemer.engine.rungs.rung import RungItem
from bessemer.ladder.fit import fit
from bessemer.ladder.forms import types_of
from bessemer.ladder.lessons import Lesson


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2021-03-05", (2021, 3, 5)),
        ("2021-03-05t10:00:00z", (2021, 3, 5)),
        ("2021/3/5", (2021, 3, 5)),
        ("5.3.2021", (2021, 3, 5)),
        ("3/5/2021", (2021, 3, 5)),
        ("25/12/2021", (2021, 12, 25)),
        ("5th march 2021", (2021, 3, 5)),
        ("mar. 5, 2021", (2021, 3, 5)),
        ("september 2021", (2021, 9, None)),
        ("2021-09", (2021, 9, None)),
        ("09/2021", (2021, 9, None)),
        ("1999", (1999, None, None)),
        ("2021-02-30", None),
        ("2021-13-13", None),
        ("may", None),
        ("drill 2021", None),
        ("", None),
        ("0000", None),
        ("12345", None),
    ],
)
def test_spellings(text, expected):
    found = date_of(text)
    assert (None if found is None else tuple(found)) == expected


def test_partial_dates_keep_their_precision():
    def told(a, b):
        found = dict(zip(DATE_FEATURES, compare_dates(a, b), strict=True))
        assert repr(compare_dates(b, a)) == repr(list(found.values()))
        return {name: value for name, value in found.items() if not math.isnan(value)}

    assert told("2021-03-05", "2021-03-07")["days_apart"] == 2
    assert told("2021-03-05", "march 2021") == {"months_apart": 0, "years_apart": 0, "same_year": 1, "same_month": 1}
    assert told("2020-12-31", "2021") == {"years_apart": 1, "same_year": 0}
    assert told("2021-03-05", "soon") == {}


def test_the_type_is_guessed_and_years_alone_are_numbers():
    dates = [({"d": f"2021-{n % 12 + 1:02}-{n % 28 + 1:02}", "y": f"{1950 + n}"},) * 2 for n in range(60)]
    assert [one.type.value for one in types_of(dates, ["d", "y"])] == ["date", "number"]


def test_pairs_are_told_apart_by_days():
    lessons = [
        Lesson(
            RungItem(
                input={
                    "a": {"name": "spring fair", "held": f"2021-{n % 12 + 1:02}-10"},
                    "b": {"name": "spring fair", "held": f"2021-{n % 12 + 1:02}-{11 if n % 2 else 25}"},
                }
            ),
            "same" if n % 2 else "other",
        )
        for n in range(120)
    ]
    made = fit("pairs", lessons)
    assert made.artefact.manifest.lineage["fields"]["held"] == "date"
    right = made.out_of_fold.argmax(axis=1) == made.truth
    assert right.mean() > 0.95
