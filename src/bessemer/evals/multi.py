"""The `multi` grader: several graders, one formula over their rewards."""

import asyncio
import time
from collections.abc import Mapping

from bessemer.core.errors import GraderError
from bessemer.core.types import JSON
from bessemer.evals.formula import Formula, FormulaError, parse
from bessemer.evals.grader import Grader, GraderErrors, GradeResult


class Multi(Grader):
    """Rewards by name go into `calculate_output`; one unscorable part that the formula reads makes all unscorable.

    A formula that does not parse, or reads a name that no grader has, shows as the error flag of each result, as with
    OpenAI; `check` raises for it, so that a job with such a grader never starts.
    """

    def __init__(self, name: str, *, graders: Mapping[str, Grader], calculate_output: str) -> None:
        super().__init__(name, "multi")
        self._graders = dict(graders)
        self._by_variable = {**{grader.name: key for key, grader in graders.items()}, **{key: key for key in graders}}
        self._formula: Formula | None = None
        self._problem = GraderErrors()
        self._message = ""
        try:
            formula = parse(calculate_output)
        except FormulaError as error:
            self._problem = GraderErrors(formula_parse_error=True)
            self._message = f"calculate_output {calculate_output!r} does not parse: {error}."
            return
        if unknown := [variable for variable in formula.names if variable not in self._by_variable]:
            self._problem = GraderErrors(invalid_variable_error=True)
            self._message = (
                f"calculate_output reads {', '.join(map(repr, unknown))}, but the graders are named "
                f"{', '.join(map(repr, self._by_variable))}; use those names."
            )
            return
        self._formula = formula

    def check(self) -> None:
        """Raise GraderError (code formula_parse_error or invalid_variable_error), or what a part raises."""
        if self._formula is None:
            code = "formula_parse_error" if self._problem.formula_parse_error else "invalid_variable_error"
            raise GraderError(self._message, param="grader.calculate_output", code=code)
        for grader in self._graders.values():
            grader.check()

    def close(self) -> None:
        """Close every part."""
        for grader in self._graders.values():
            grader.close()

    async def grade(self, sample: str, item: JSON) -> GradeResult:
        """Grade with every part at once, then compute the formula."""
        start = time.perf_counter()
        keys = list(self._graders)
        parts = dict(
            zip(keys, await asyncio.gather(*(self._graders[key].grade(sample, item) for key in keys)), strict=True)
        )
        reward, errors = self._combine(parts)
        missing = [part for part in parts.values() if part.reward is None] if reward is None else []
        usage: dict[str, int] = {}
        for part in parts.values():
            for model, tokens in part.token_usage_per_model.items():
                usage[model] = usage.get(model, 0) + tokens
        counted = [part.token_usage for part in parts.values() if part.token_usage is not None]
        return GradeResult(
            name=self.name,
            type=self.type,
            reward=reward,
            errors=errors,
            sub_rewards={key: part.reward for key, part in parts.items()},
            scores={key: part.scores for key, part in parts.items() if part.scores},
            execution_time=time.perf_counter() - start,
            token_usage=sum(counted) if counted else None,
            token_usage_per_model=usage,
            unknown=bool(missing) and all(part.unknown for part in missing),
            reason=next((part.failure for part in missing if part.failure is not None), None),
        )

    def _combine(self, parts: Mapping[str, GradeResult]) -> tuple[float | None, GraderErrors]:
        if self._formula is None:
            return None, self._problem
        values: dict[str, float] = {}
        errors = GraderErrors()
        for variable in self._formula.names:
            part = parts[self._by_variable[variable]]
            if part.reward is None:
                errors = errors.merged(part.errors)
            else:
                values[variable] = part.reward
        if len(values) < len(self._formula.names):
            return None, errors
        try:
            return self._formula.evaluate(values), errors
        except (ArithmeticError, ValueError):
            return None, GraderErrors(other_error=True)
