"""Graders over text alone: `string_check` and `text_similarity`."""

import asyncio
import time
from collections.abc import Callable, Mapping

from bessemer.core.errors import StoreError, told
from bessemer.core.types import JSON
from bessemer.evals.grader import Embed, Failure, Grader, GraderErrors, GradeResult, Unscorable, fill, scope_of
from bessemer.evals.similarity import MAX_TEXT, SIMILARITIES, cosine

OPERATIONS: Mapping[str, Callable[[str, str], bool]] = {
    "eq": lambda text, reference: text == reference,
    "ne": lambda text, reference: text != reference,
    "like": lambda text, reference: reference in text,
    "ilike": lambda text, reference: reference.casefold() in text.casefold(),
}
"""`like` is containment of the reference, `ilike` without regard to case."""


class StringCheck(Grader):
    """1.0 when the operation holds between the filled input and reference, else 0.0."""

    def __init__(self, name: str, *, text: str, reference: str, operation: str) -> None:
        super().__init__(name, "string_check")
        self._text, self._reference = text, reference
        self._holds = OPERATIONS[operation]

    async def grade(self, sample: str, item: JSON) -> GradeResult:
        """Compare; unscorable when a template refers to what is not there."""
        start, scope = time.perf_counter(), scope_of(sample, item)
        try:
            reward = float(self._holds(fill(self._text, scope), fill(self._reference, scope)))
        except Unscorable as problem:
            return self.unscored(problem)
        return GradeResult(name=self.name, type=self.type, reward=reward, execution_time=time.perf_counter() - start)


class TextSimilarity(Grader):
    """A similarity in [0, 1] between the filled input and reference (`cosine`: in [-1, 1])."""

    def __init__(self, name: str, *, text: str, reference: str, metric: str, embed: Embed | None) -> None:
        super().__init__(name, "text_similarity")
        self._text, self._reference, self._metric, self._embed = text, reference, metric, embed

    def check(self) -> None:
        """Raise StoreError when `cosine` has no model to compare by; the first to ask brings it."""
        if self._embed is not None:
            asyncio.run(self._compare("", ""))

    async def grade(self, sample: str, item: JSON) -> GradeResult:
        """Compare; unscorable when a template refers to nothing, a text is too long, or the embedding fails.

        Raises StoreError when `cosine` has no model to compare by.
        """
        start, scope = time.perf_counter(), scope_of(sample, item)
        try:
            reward = await self._compare(fill(self._text, scope), fill(self._reference, scope))
        except Unscorable as problem:
            return self.unscored(problem)
        return GradeResult(name=self.name, type=self.type, reward=reward, execution_time=time.perf_counter() - start)

    async def _compare(self, text: str, reference: str) -> float:
        for name, filled in (("input", text), ("reference", reference)):
            if len(filled) > MAX_TEXT:
                raise Unscorable(
                    GraderErrors(truncated_observation_error=True),
                    Failure(
                        code="truncated_observation_error",
                        message=f"text_similarity compares texts of at most {MAX_TEXT} characters; "
                        f"{name} has {len(filled)}. Grade a shorter piece, or use another grader.",
                    ),
                )
        if self._embed is None:
            return SIMILARITIES[self._metric](text, reference)
        try:
            left, right = await self._embed([text, reference])
            return cosine(left, right)
        except StoreError:
            raise  # there is no model to compare by: that is no answer's fault
        except Exception as error:
            details = told(error)
            raise Unscorable(
                GraderErrors(model_grader_server_error=True, model_grader_server_error_details=details)
            ) from error
