"""Graders that are Python code: OpenAI's `python` and Bedrock's reward function as `lambda`.

The code runs in killable processes (`sandbox`). What it raises, or a reward that is no finite number, leaves the
output unscorable with the flag that OpenAI gives it.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from bessemer.core.errors import GraderError
from bessemer.core.types import JSON
from bessemer.evals.grader import Grader, GraderErrors, GradeResult, Limits, scope_of
from bessemer.evals.sandbox import Sandbox, SandboxError, finite


def _compiled(source: str, function: str, name: str) -> None:
    """Raise GraderError when the source does not compile or lacks the function's name."""
    try:
        code = compile(source, "grader.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise GraderError(f"The source of grader {name!r} does not compile: {error}.", param="grader.source") from error
    if function not in code.co_names:
        raise GraderError(
            f"The source of grader {name!r} defines no function {function!r}; define it.", param="grader.source"
        )


def _failed(error: SandboxError) -> GraderErrors:
    if error.server:
        return GraderErrors(python_grader_server_error=True, python_grader_server_error_type=error.kind)
    return GraderErrors(python_grader_runtime_error=True, python_grader_runtime_error_details=str(error))


_NO_NUMBER = GraderErrors(unresponsive_reward_error=True)


class PythonGrader(Grader):
    """`grade(sample, item) -> float`; `sample` holds output_text, and output_json when the text is JSON."""

    def __init__(self, name: str, *, source: str, limits: Limits, unfenced: bool) -> None:
        super().__init__(name, "python")
        self._source = source
        self._sandbox = Sandbox(source, "grade", "python", limits, unfenced=unfenced)

    def check(self) -> None:
        """Raise GraderError when the source does not compile or has no `grade`."""
        _compiled(self._source, "grade", self.name)

    def close(self) -> None:
        """Kill the grader's processes."""
        self._sandbox.close()

    async def grade(self, sample: str, item: JSON) -> GradeResult:
        """Run the code once, in a process of its own."""
        start, reward, errors = time.perf_counter(), None, GraderErrors()
        try:
            reward = finite(await asyncio.to_thread(self._sandbox.call, scope_of(sample, item)["sample"], item))
            errors = errors if reward is not None else _NO_NUMBER
        except SandboxError as error:
            errors = _failed(error)
        took = time.perf_counter() - start
        return GradeResult(name=self.name, type=self.type, reward=reward, errors=errors, execution_time=took)


_LIST = 32
_OWN_FIELDS = ("id", "messages", "metadata", "reference_answer")


def lambda_event(index: int, sample: str, item: JSON) -> JSON:
    """Return one element of Bedrock's event: id, messages with the answer at the end, metadata."""
    metadata = item.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {key: value for key, value in item.items() if key not in _OWN_FIELDS}
    event: JSON = {
        "id": str(item.get("id", index)),
        "messages": [*item.get("messages", []), {"role": "assistant", "content": sample}],
        "metadata": metadata,
    }
    if "reference_answer" in item:
        event["reference_answer"] = item["reference_answer"]
        event["metadata"] = {"reference_answer": item["reference_answer"], **metadata}
    return event


class LambdaGrader(Grader):
    """A Bedrock reward function, unchanged: a list of samples in, a list of scores out, matched by id."""

    def __init__(self, name: str, *, source: str, handler: str, limits: Limits, unfenced: bool) -> None:
        super().__init__(name, "lambda")
        self._source, self._handler = source, handler
        self._sandbox = Sandbox(source, handler, "lambda", limits, unfenced=unfenced)

    def check(self) -> None:
        """Raise GraderError when the source does not compile or has no such handler."""
        _compiled(self._source, self._handler, self.name)

    def close(self) -> None:
        """Kill the grader's processes."""
        self._sandbox.close()

    async def grade(self, sample: str, item: JSON) -> GradeResult:
        """Call the handler with a list of one."""
        return (await self.grade_many([(sample, item)]))[0]

    async def grade_many(self, pairs: Sequence[tuple[str, JSON]], concurrency: int = 8) -> list[GradeResult]:
        """Call the handler with lists of at most 32, as Bedrock does; the limits hold for each call."""
        gate = asyncio.Semaphore(concurrency)

        async def one(part: Sequence[tuple[str, JSON]]) -> list[GradeResult]:
            async with gate:
                return await self._grade_list(part)

        parts = [pairs[start : start + _LIST] for start in range(0, len(pairs), _LIST)]
        return [result for results in await asyncio.gather(*map(one, parts)) for result in results]

    async def _grade_list(self, pairs: Sequence[tuple[str, JSON]]) -> list[GradeResult]:
        start = time.perf_counter()
        events = [lambda_event(index, sample, item) for index, (sample, item) in enumerate(pairs)]
        if len({event["id"] for event in events}) < len(events):
            # Samples of one group share their item's id; answers are matched by it.
            events = [{**event, "id": f"{event['id']}#{index}"} for index, event in enumerate(events)]
        try:
            answer = await asyncio.to_thread(self._sandbox.call, events)
        except SandboxError as error:
            return [GradeResult(name=self.name, type=self.type, reward=None, errors=_failed(error)) for _ in pairs]
        took = (time.perf_counter() - start) / len(pairs)
        found = {str(entry.get("id")): entry for entry in _entries(answer)}
        return [self._result(found.get(event["id"]), took) for event in events]

    def _result(self, entry: JSON | None, took: float) -> GradeResult:
        reward = finite((entry or {}).get("aggregate_reward_score"))
        named = {str(metric.get("name")): metric.get("value") for metric in _entries((entry or {}).get("metrics_list"))}
        return GradeResult(
            name=self.name,
            type=self.type,
            reward=reward,
            errors=GraderErrors() if reward is not None else _NO_NUMBER,
            scores=named,
            execution_time=took,
        )


def _entries(answer: Any) -> list[JSON]:
    return [entry for entry in answer if isinstance(entry, dict)] if isinstance(answer, list) else []
