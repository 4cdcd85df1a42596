"""Formulas of multi graders: precedence, functions, errors, and agreement with Python's own arithmetic."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.evals.formula import FormulaError, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7.0),
        ("(1 + 2) * 3", 9.0),
        ("-2 ^ 2", -4.0),
        ("2 ^ 3 ^ 2", 512.0),
        ("2 ^ -1", 0.5),
        ("8 / 4 / 2", 1.0),
        ("7 - 2 - 1", 4.0),
        ("min(a, b, 0.1)", 0.1),
        ("max(a, b)", 0.5),
        ("abs(-3) + floor(1.9) + ceil(1.1)", 6.0),
        ("sqrt(16) + log(exp(2))", 6.0),
        ("0.5 * a + .5*b", 0.375),
        ("1e-1", 0.1),
    ],
)
def test_values(text: str, value: float) -> None:
    assert parse(text).evaluate({"a": 0.25, "b": 0.5}) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        "0.5 * text_similarity_score +  0.5 * string_check_score)",  # the documentation's own example
        "",
        "1 +",
        "(1",
        "a b",
        "1 ** 2",
        "__import__('os')",
        "a.b",
        "a[0]",
        "foo(1)",
        "abs(1, 2)",
        "min()",
        "1; 2",
        "(" * 500 + "1" + ")" * 500,
        "1+" * 5000 + "1",
        "lambda: 1",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(FormulaError):
        parse(text)


@pytest.mark.parametrize(
    "text", ["1 / 0", "log(0)", "sqrt(-1)", "exp(10000)", "(-8) ^ 0.5", "10 ^ 400", "0 ^ -1", "1e999"]
)
def test_no_finite_answer(text: str) -> None:
    with pytest.raises((ArithmeticError, ValueError)):
        parse(text).evaluate({})


def test_names_are_those_read() -> None:
    assert parse("max(first, 2) + first * second").names == ("first", "second")


def _expressions() -> st.SearchStrategy[str]:
    leaves = st.one_of(st.integers(0, 9).map(str), st.sampled_from(["x", "y"]))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
            inner.map(lambda t: f"-{t}"),
            st.tuples(inner, inner).map(lambda t: f"max({t[0]}, {t[1]})"),
        ),
        max_leaves=12,
    )


@given(_expressions(), st.floats(-5, 5), st.floats(-5, 5))
def test_agrees_with_python(text: str, x: float, y: float) -> None:
    try:
        expected = float(eval(text, {"max": max}, {"x": x, "y": y}))  # the strategy makes arithmetic alone
    except ZeroDivisionError:
        with pytest.raises(ArithmeticError):
            parse(text).evaluate({"x": x, "y": y})
        return
    if math.isfinite(expected):
        assert parse(text).evaluate({"x": x, "y": y}) == pytest.approx(expected)


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        formula = parse(text)
    except FormulaError:
        return
    values = dict.fromkeys(formula.names, 1.0)
    with contextlib.suppress(ArithmeticError, ValueError):
        assert math.isfinite(formula.evaluate(values))
