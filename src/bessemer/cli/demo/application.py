"""An application that uses Bessemer from outside: the openai client, and Bessemer's for what OpenAI has no place for.

Answers are appended to a journal as they come, so that an interrupted application continues after the last one.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bessemer.client import AsyncClient, Operation, calls
from bessemer.client.calls import Jobs
from bessemer.core.errors import BessemerError
from bessemer.core.types import JSON, Frozen, Split
from bessemer.core.wire import JobEvent, JobObject

_START_S = 120.0
_STOP_S = 30.0
_POLL_S = 1.0
_PID_FILE = "server.pid"
FINISHED = ("succeeded", "failed", "cancelled")
T = TypeVar("T")
Notice = Callable[[int, int, str], None]
"""Called with (done, total, what): total 0 when it is not known."""


class TurnFailed(BessemerError):
    """A step of the loop did not work; the message says which and why."""

    code = "turn_failed"


class Question(Frozen, frozen=True):
    """Something the application wants answered."""

    id: str
    input: JSON
    split: str


class ApplicationAnswer(Frozen, frozen=True):
    """What came back for a question."""

    question: str
    inference_id: str
    text: str | None
    version: str | None
    provider: str | None
    cost_usd: float | None
    escalated: bool | None
    input_tokens: int | None
    output_tokens: int | None
    latency_s: float
    error: str | None = None


class Journal:
    """An append-only file of answers by question; a half-written last line (the process was killed) is dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, ApplicationAnswer] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        complete = 0
        for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
            if not line.endswith(b"\n"):
                break
            answer = msgspec.json.decode(line, type=ApplicationAnswer)
            self.answers[answer.question] = answer
            complete += len(line)
        if path.exists():
            os.truncate(path, complete)

    def append(self, answer: ApplicationAnswer) -> None:
        """Keep an answer."""
        with self.path.open("ab") as file:
            file.write(msgspec.json.encode(answer) + b"\n")
        self.answers[answer.question] = answer


class Server:
    """`bessemer up` as a child process on a free port; its output goes to `server.log` in the data folder."""

    def __init__(self, data: Path, config: Path) -> None:
        self._data, self._config = data, config
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Server":
        self._data.mkdir(parents=True, exist_ok=True)
        stop_orphan(self._data)
        (self._data / "server.url").unlink(missing_ok=True)
        command = [sys.executable, "-m", "bessemer", "up", "--port", "0"]
        command += ["--data", str(self._data), "--config", str(self._config)]
        with (self._data / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)  # noqa: S603
        (self._data / _PID_FILE).write_text(str(self._process.pid))
        deadline = time.monotonic() + _START_S
        while not (self._data / "server.url").exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise TurnFailed(f"The server did not start; the end of its log:\n{self.log_tail()}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the server and wait for it."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def url(self) -> str:
        """Where it listens."""
        return (self._data / "server.url").read_text().strip()

    @property
    def key(self) -> str:
        """The admin key of this data folder."""
        return (self._data / "admin.key").read_text().strip()

    def log_tail(self, lines: int = 15) -> str:
        """Return the end of the server's log."""
        return "\n".join((self._data / "server.log").read_text(errors="replace").splitlines()[-lines:])


def stop_orphan(data: Path) -> None:
    """Stop the server that an application which was killed left behind on this data folder."""
    pid = (data / _PID_FILE).read_text() if (data / _PID_FILE).exists() else ""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") if pid else []
    except OSError:
        return
    deadline = time.monotonic() + _STOP_S
    if str(data).encode() in command:
        os.kill(int(pid), signal.SIGTERM)
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.1)


class Application:
    """Asks and tunes with OpenAI's client; gives feedback and steers the loop with Bessemer's."""

    def __init__(self, url: str, key: str) -> None:
        from openai import AsyncOpenAI

        self._openai = AsyncOpenAI(base_url=f"{url}/v1", api_key=key, timeout=900.0, max_retries=2)
        self.client = AsyncClient(url, key)

    async def ask(self, question: Question, model: str, tags: Mapping[str, str]) -> ApplicationAnswer:
        """Put one question as structured input; a refused or failed one comes back with its error."""
        from openai import APIError

        started = time.perf_counter()
        extension: JSON = {"input": question.input, "tags": {"question": question.id, **tags}}
        if question.split in list(Split):  # others are never trained on
            extension["split"] = question.split
        try:
            reply = await self._openai.chat.completions.create(
                model=model, messages=[], temperature=0.0, extra_body={"bessemer": extension}
            )
        except APIError as error:
            return failed(question.id, str(error), time.perf_counter() - started)
        facts: dict[str, Any] = (reply.model_extra or {}).get("bessemer") or {}
        usage = reply.usage
        return ApplicationAnswer(
            question=question.id,
            inference_id=facts["inference_id"],
            text=reply.choices[0].message.content,
            version=facts.get("version"),
            provider=facts.get("provider"),
            cost_usd=facts.get("cost_usd"),
            escalated=facts.get("escalated"),
            input_tokens=usage.prompt_tokens if usage else None,
            output_tokens=usage.completion_tokens if usage else None,
            latency_s=time.perf_counter() - started,
        )

    async def ask_all(
        self,
        questions: Sequence[Question],
        model: str,
        journal: Journal,
        notice: Notice,
        *,
        tags: Mapping[str, str],
        concurrency: int = 64,
    ) -> list[ApplicationAnswer]:
        """Ask every question that the journal does not hold yet, and return all answers in the questions' order.

        Failed requests are not kept: a later try asks them again.
        """
        failed: dict[str, ApplicationAnswer] = {}
        waiting = [question for question in questions if question.id not in journal.answers]
        gate = asyncio.Semaphore(concurrency)
        done = len(questions) - len(waiting)

        async def one(question: Question) -> None:
            nonlocal done
            async with gate:
                answer = await self.ask(question, model, tags)
            if answer.error is None:
                journal.append(answer)
            else:
                failed[question.id] = answer
            done += 1
            notice(done, len(questions), model)

        async with asyncio.TaskGroup() as group:
            for question in waiting:
                group.create_task(one(question))
        return [failed.get(question.id) or journal.answers[question.id] for question in questions]

    async def feedback_all(self, verdicts: Sequence[JSON], notice: Notice, *, concurrency: int = 32) -> None:
        """Post every piece of feedback (bodies of POST /v1/feedback)."""
        gate = asyncio.Semaphore(concurrency)
        done = 0

        async def one(body: JSON) -> None:
            nonlocal done
            async with gate:
                await self.send(calls.give_feedback(body))
            done += 1
            notice(done, len(verdicts), "feedback")

        async with asyncio.TaskGroup() as group:
            for body in verdicts:
                group.create_task(one(body))

    async def send(self, operation: Operation[T]) -> T:
        """Send a call of Bessemer's API. Raises TurnFailed."""
        try:
            return await self.client.send(operation)
        except BessemerError as error:
            raise TurnFailed(f"{operation.method} {operation.path}: {error.message}") from error

    async def fine_tune(self, body: JSON, key: str, notice: Notice) -> JSON:
        """Create a fine-tuning job with OpenAI's client and wait for its end. Raises TurnFailed unless it succeeds."""
        from openai import APIError

        try:
            job = await self._openai.fine_tuning.jobs.create(**body, extra_headers={"Idempotency-Key": key})
        except APIError as error:
            raise TurnFailed(f"The fine-tuning job was refused: {error}") from error
        while job.status not in FINISHED:
            await asyncio.sleep(_POLL_S)
            job = await self._openai.fine_tuning.jobs.retrieve(job.id)
            latest = await self._openai.fine_tuning.jobs.list_events(job.id, limit=1)
            notice(0, 0, latest.data[0].message if latest.data else job.status)
        return _succeeded(job.to_dict(warnings=False))

    async def run_job(self, jobs: Jobs[Any, JobObject, JobEvent], body: JSON, key: str, notice: Notice) -> JSON:
        """Create an evaluation or cascade job and wait for its end. Raises TurnFailed unless it succeeds."""
        job = await self.send(jobs.create(body, key))
        try:
            job = await self.client.wait(jobs, job.id, lambda event: notice(0, 0, event.message))
        except BessemerError as error:
            raise TurnFailed(f"Job {error.message}") from error
        return _succeeded(msgspec.to_builtins(job))

    async def close(self) -> None:
        """Close the connections."""
        await self._openai.close()
        await self.client.close()


def _succeeded(job: Mapping[str, Any]) -> JSON:
    if job["status"] != "succeeded":
        reason = (job.get("error") or {}).get("message", "no reason given")
        raise TurnFailed(f"Job {job['id']} {job['status']}: {reason}")
    return dict(job)


def failed(question: str, error: str, seconds: float = 0.0) -> ApplicationAnswer:
    """Return the answer to a question (its id) that got none."""
    return ApplicationAnswer(
        question=question,
        inference_id="",
        text=None,
        version=None,
        provider=None,
        cost_usd=None,
        escalated=None,
        input_tokens=None,
        output_tokens=None,
        latency_s=seconds,
        error=error,
    )
