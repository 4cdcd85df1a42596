"""Formulas of `multi` graders: + - * / ^, parentheses, and a closed list of functions. Nothing is ever eval-ed.

Grammar, loosest first: sum = product (('+'|'-') product)*; product = unary (('*'|'/') unary)*;
unary = ('-'|'+') unary | power; power = atom ('^' unary)?;
atom = number | name | name '(' sum (',' sum)* ')' | '(' sum ')'.
`^` binds to the right and tighter than a sign: -2^2 is -4.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence

from bessemer.core.types import Frozen

Evaluate = Callable[[Mapping[str, float]], float]

_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([A-Za-z_]\w*)|([-+*/^(),]))")
_MAX_LENGTH = 4096
_MAX_DEPTH = 64

_ONE: Mapping[str, Callable[[float], float]] = {
    "abs": abs,
    "floor": lambda x: float(math.floor(x)),
    "ceil": lambda x: float(math.ceil(x)),
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}
_MANY: Mapping[str, Callable[[Sequence[float]], float]] = {"min": min, "max": max}


class FormulaError(ValueError):
    """The formula does not parse; the message says where."""


class Formula(Frozen, frozen=True):
    """A parsed formula: the names it reads, and how to compute it."""

    text: str
    names: tuple[str, ...]
    evaluate: Evaluate
    """Values by name in, number out. Raises ArithmeticError or ValueError where mathematics has no finite answer."""


class _Parser:
    """Recursive descent over tokens; one method per grammar rule."""

    def __init__(self, text: str) -> None:
        if len(text) > _MAX_LENGTH:
            raise FormulaError(f"the formula is longer than {_MAX_LENGTH} characters")
        self.tokens = _tokens(text)
        self.at = 0
        self.depth = 0
        self.names: dict[str, None] = {}

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def expect(self, mark: str) -> None:
        if (found := self.take()) != mark:
            raise FormulaError(f"expected {mark!r}, found {found or 'the end'!r}")

    def sum(self) -> Evaluate:
        left = self.product()
        while self.peek() in ("+", "-"):
            left = _binary(self.take(), left, self.product())
        return left

    def product(self) -> Evaluate:
        left = self.unary()
        while self.peek() in ("*", "/"):
            left = _binary(self.take(), left, self.unary())
        return left

    def unary(self) -> Evaluate:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise FormulaError(f"the formula nests deeper than {_MAX_DEPTH}")
        if self.peek() in ("+", "-"):
            negative = self.take() == "-"
            inner = self.unary()
            result = (lambda v: -inner(v)) if negative else inner
        else:
            result = self.power()
        self.depth -= 1
        return result

    def power(self) -> Evaluate:
        base = self.atom()
        if self.peek() == "^":
            return _binary(self.take(), base, self.unary())
        return base

    def atom(self) -> Evaluate:
        token = self.take()
        if token == "(":  # noqa: S105 -- a mark of the formula
            inner = self.sum()
            self.expect(")")
            return inner
        if token and (token[0].isdigit() or token[0] == "."):
            value = float(token)
            return lambda _: value
        if token and (token[0].isalpha() or token[0] == "_"):
            if self.peek() == "(":
                return self.call(token)
            self.names[token] = None
            return lambda v: v[token]
        raise FormulaError(f"unexpected {token or 'end'!r}")

    def call(self, name: str) -> Evaluate:
        self.expect("(")
        arguments = [self.sum()]
        while self.peek() == ",":
            self.take()
            arguments.append(self.sum())
        self.expect(")")
        if name in _MANY:
            many = _MANY[name]
            return lambda v: many([argument(v) for argument in arguments])
        if name not in _ONE:
            raise FormulaError(f"unknown function {name!r}; known: {', '.join(sorted({*_ONE, *_MANY}))}")
        if len(arguments) != 1:
            raise FormulaError(f"{name} takes one argument")
        one, only = _ONE[name], arguments[0]
        return lambda v: one(only(v))


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise FormulaError(f"unexpected character {text[at:].lstrip()[0]!r}")
        tokens.append(match[1] or match[2] or match[3])
        at = match.end()
    return tokens


def _power(base: float, exponent: float) -> float:
    result = base**exponent
    if isinstance(result, complex):
        raise ValueError("a negative number has no real fractional power")
    return float(result)


def _binary(operator: str, left: Evaluate, right: Evaluate) -> Evaluate:
    table: dict[str, Evaluate] = {
        "+": lambda v: left(v) + right(v),
        "-": lambda v: left(v) - right(v),
        "*": lambda v: left(v) * right(v),
        "/": lambda v: left(v) / right(v),
        "^": lambda v: _power(left(v), right(v)),
    }
    return table[operator]


def parse(text: str) -> Formula:
    """Parse a formula. Raises FormulaError saying what is wrong."""
    parser = _Parser(text)
    compute = parser.sum()
    if parser.peek():
        raise FormulaError(f"unexpected {parser.peek()!r} after the formula's end")

    def evaluate(values: Mapping[str, float]) -> float:
        result = compute(values)
        if not math.isfinite(result):
            raise ArithmeticError("the formula's value is not finite")
        return result

    return Formula(text=text, names=tuple(parser.names), evaluate=evaluate)
