"""Graders that are Python code: OpenAI's `python` and Bedrock's reward function as `lambda`.

The code runs in killable processes (`sandbox`). What it raises, or a reward that is no finite number, leaves the
output unscorable with the flag that OpenAI gives it.
"""

import asyncio
import functools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bessemer.core.errors import GraderError, InvalidRequest
from bessemer.core.types import JSON
from bessemer.evals.grader import Grader, GraderErrors, GradeResult, GraderServices, scope_of
from bessemer.evals.sandbox import Sandbox, SandboxError, finite

MAX_SOURCE = 64 << 10
"""Bytes of a grader's source."""
_THREADS = 16
"""Calls that may wait for grader processes at once; nobody else's work waits in these threads."""


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="code-grader")


async def _call(sandbox: Sandbox, *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(_threads(), functools.partial(sandbox.call, *arguments))


def _loaded(sandbox: Sandbox, name: str) -> None:
    """Raise GraderError when the source does not compile, import, or define its function; found out in the sandbox."""
    try:
        sandbox.load()
    except SandboxError as error:
        raise GraderError(f"The source of grader {name!r} does not load: {error}.", param="grader.source") from error


def _failed(error: SandboxError) -> GraderErrors:
    if error.server:
        return GraderErrors(python_grader_server_error=True, python_grader_server_error_type=error.kind)
    return GraderErrors(python_grader_runtime_error=True, python_grader_runtime_error_details=str(error))


_NO_NUMBER = GraderErrors(unresponsive_reward_error=True)


class PythonGrader(Grader):
    """`grade(sample, item) -> float`; `sample` holds output_text, and output_json when the text is JSON."""

    def __init__(self, name: str, *, source: str, services: GraderServices) -> None:
        super().__init__(name, "python")
        self._sandbox = Sandbox(
            source, "grade", "python", services.limits, runtime=services.runtime, unfenced=services.unfenced
        )

    def check(self) -> None:
        """Raise GraderError when the source does not load or has no `grade`."""
        _loaded(self._sandbox, self.name)

    def close(self) -> None:
        """Kill the grader's processes."""
        self._sandbox.close()

    async def grade(self, sample: str, item: JSON) -> GradeResult:
        """Run the code once, in a process of its own."""
        start, reward, errors = time.perf_counter(), None, GraderErrors()
        try:
            reward = finite(await _call(self._sandbox, scope_of(sample, item)["sample"], item))
            errors = errors if reward is not None else _NO_NUMBER
        except SandboxError as error:
            errors = _failed(error)
        took = time.perf_counter() - start
        return GradeResult(name=self.name, type=self.type, reward=reward, errors=errors, execution_time=took)


_LIST = 32
_OWN_FIELDS = ("id", "messages", "metadata", "reference_answer")


def lambda_event(index: int, sample: str, item: JSON) -> JSON:
    """Return one element of Bedrock's event: id, messages with the answer at the end, metadata.

    Raises InvalidRequest when the item's messages are no list.
    """
    messages = item.get("messages", [])
    if not isinstance(messages, list):
        raise InvalidRequest(
            f"item.messages is {type(messages).__name__}; a lambda grader takes a list.", param="item.messages"
        )
    metadata = item.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {key: value for key, value in item.items() if key not in _OWN_FIELDS}
    event: JSON = {
        "id": str(item.get("id", index)),
        "messages": [*messages, {"role": "assistant", "content": sample}],
        "metadata": metadata,
    }
    if "reference_answer" in item:
        event["reference_answer"] = item["reference_answer"]
        event["metadata"] = {"reference_answer": item["reference_answer"], **metadata}
    return event


class LambdaGrader(Grader):
    """A Bedrock reward function, unchanged: a list of samples in, a list of scores out, matched by id."""

    def __init__(self, name: str, *, source: str, handler: str, services: GraderServices) -> None:
        super().__init__(name, "lambda")
        self._sandbox = Sandbox(
            source, handler, "lambda", services.limits, runtime=services.runtime, unfenced=services.unfenced
        )

    def check(self) -> None:
        """Raise GraderError when the source does not load or has no such handler."""
        _loaded(self._sandbox, self.name)

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
        results: dict[int, GradeResult] = {}
        events: dict[int, JSON] = {}
        for index, (sample, item) in enumerate(pairs):
            try:
                events[index] = lambda_event(index, sample, item)
            except InvalidRequest as error:
                flags = GraderErrors(invalid_variable_error=True, python_grader_runtime_error_details=error.message)
                results[index] = self._unscorable(flags)
        if events:
            results |= dict(zip(events, await self._ask(list(events.values())), strict=True))
        return [results[index] for index in range(len(pairs))]

    def _unscorable(self, errors: GraderErrors) -> GradeResult:
        return GradeResult(name=self.name, type=self.type, reward=None, errors=errors)

    async def _ask(self, events: list[JSON]) -> list[GradeResult]:
        start = time.perf_counter()
        if len({event["id"] for event in events}) < len(events):
            # Samples of one group share their item's id; answers are matched by it.
            events = [{**event, "id": f"{event['id']}#{index}"} for index, event in enumerate(events)]
        try:
            answer = await _call(self._sandbox, events)
        except SandboxError as error:
            return [self._unscorable(_failed(error)) for _ in events]
        took = (time.perf_counter() - start) / len(events)
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
