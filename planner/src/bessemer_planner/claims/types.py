"""A published claim, what goes into checking it, what comes out, and whether it stands."""

from enum import StrEnum

import msgspec


class Verdict(StrEnum):
    """Whether a claim stands."""

    HOLDS = "holds"
    HOLDS_IF = "holds if"
    """Under a condition that the explanation names."""
    FAILS = "fails"


class Input(msgspec.Struct, frozen=True):
    """A figure that the check starts from."""

    name: str
    value: float | str
    unit: str
    source: str


class Computed(msgspec.Struct, frozen=True):
    """A figure that the check works out; bounds hold 80 % where a prediction is behind it."""

    name: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None


class Claim(msgspec.Struct, frozen=True):
    """One claim, checked."""

    number: str
    """`C1` to `C11`."""
    claim: str
    inputs: tuple[Input, ...]
    computed: tuple[Computed, ...]
    verdict: Verdict
    explanation: str
    condition: str = ""
    """With `holds if`: under which condition."""

    def value(self, name: str) -> float:
        """Return a computed figure by its name."""
        return next(one.value for one in self.computed if one.name == name)
