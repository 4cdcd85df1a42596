"""Text graders in killable processes, for the place where others wait for this one: the API.

Measures of text compute without letting other threads have the interpreter. There they run behind the fence of code
graders, in a fork for each grade, with its limits of time and memory.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final

import msgspec

from bessemer.core.types import JSON
from bessemer.evals.grader import Failure, Grader, GraderErrors, GradeResult, Limits, TextGrading
from bessemer.evals.runtimes import Bessemer
from bessemer.evals.sandbox import Sandbox, SandboxError

TEXT_KINDS: Final = frozenset({"string_check", "text_similarity", "feedback", "attributes"})
_LIMITS: Final = Limits(cpu_s=5)
_THREADS: Final = 32
"""Grades that may wait for a process at once."""


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="text-grader")


class TextProcesses:
    """Processes that grade texts; started with the first grade."""

    def __init__(self, limits: Limits = _LIMITS) -> None:
        source = "from bessemer.evals.graders import grade_text"
        self._sandbox = Sandbox(source, "grade_text", "lambda", limits, runtime=Bessemer(), unfenced=True)

    def grade(self, grader: JSON, sample: str, item: JSON) -> GradeResult:
        """Grade one output. Blocking. Raises SandboxError when it takes too long or too much memory."""
        answer = self._sandbox.call({"grader": grader, "sample": sample, "item": item})
        return msgspec.convert(answer, GradeResult)

    def close(self) -> None:
        """Kill the processes."""
        self._sandbox.close()


class Apart(Grader):
    """A text grader, by its JSON, that grades in another process."""

    def __init__(self, name: str, grader: JSON, grading: TextGrading) -> None:
        super().__init__(name, grader["type"])
        self._grader, self._grading = {**grader, "name": name}, grading

    async def grade(self, sample: str, item: JSON) -> GradeResult:
        """Grade as the grader itself does; unscorable (other_error) when that takes too long or too much memory."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(_threads(), self._grading, self._grader, sample, item)
        except SandboxError as error:
            reason = Failure("other_error", f"the grader {self.name!r} gave no reward ({error.kind}): {error.details}")
            return GradeResult(
                name=self.name, type=self.type, reward=None, errors=GraderErrors(other_error=True), reason=reason
            )
