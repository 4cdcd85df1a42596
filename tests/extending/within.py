"""A grader that pays for a number near the right one."""

import math

from bessemer.core.types import JSON
from bessemer.evals.grader import (
    Grader,
    GraderErrors,
    GradeResult,
    GraderKind,
    GraderServices,
    GraderSpec,
    Unscorable,
    fill,
    scope_of,
)


class WithinSpec(GraderSpec):
    """What a request says of it beside `type` and `name`."""

    reference: str
    tolerance: float
    input: str = "{{sample.output_text}}"


class Within(Grader):
    """1 for a number at most `tolerance` away from the reference, else 0."""

    def __init__(self, spec: WithinSpec) -> None:
        super().__init__(spec.name, "within")
        self._spec = spec

    async def grade(self, sample: str, item: JSON) -> GradeResult:
        scope = scope_of(sample, item)
        try:
            said, right = _number(fill(self._spec.input, scope)), _number(fill(self._spec.reference, scope))
            if right is None:  # nobody knows what the answer is worth: that is not zero
                raise Unscorable(GraderErrors(invalid_variable_error=True))
        except Unscorable as problem:
            return self.unscored(problem)
        near = said is not None and abs(said - right) <= self._spec.tolerance
        return GradeResult(name=self.name, type=self.type, reward=float(near))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _make(spec: WithinSpec, _services: GraderServices, _where: str) -> Grader:
    return Within(spec)


WITHIN = GraderKind("within", WithinSpec, _make)
