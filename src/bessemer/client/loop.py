"""The loop as calls: ask, judge, collect, ladder, tune, evaluate, promote, cascade. Each can be used alone.

A loop with a folder remembers: answers are kept as they come, a step that is done is not done again, and a job is made
under an idempotency key. So a program that was interrupted, at any moment, is simply run again: the same calls go on
where they stopped. What failed is tried anew.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from bessemer.client import calls
from bessemer.client.answers import as_type
from bessemer.client.blocking import Client
from bessemer.client.calls import AnyEvent, AnyJob, Jobs
from bessemer.client.memory import Memory
from bessemer.core.content import content_hash
from bessemer.core.datasets import Dataset, Split
from bessemer.core.errors import BessemerError
from bessemer.core.evaluations import CascadeResult, Evaluation
from bessemer.core.ladders import LadderResult
from bessemer.core.models import Alias, ModelVersion
from bessemer.core.openai import FineTuningJob, FineTuningJobRequest
from bessemer.core.openai_chat import ChatRequest, RequestExtension
from bessemer.core.routes import ConfidenceScore, Route
from bessemer.core.types import JSON, Frozen, JobStatus
from bessemer.core.wire import (
    CascadeRequest,
    CascadeRule,
    DatasetRequest,
    EvaluationRequest,
    JobEvent,
    JobObject,
    LadderRequest,
    MetricName,
    PromoteBody,
    RouteBody,
)

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B", bound=msgspec.Struct)
J = TypeVar("J", bound=AnyJob)
E = TypeVar("E", bound=AnyEvent)
_TELL_EACH_S: Final = 0.5
"""Progress inside a step is told at most so often, and at its end."""
_MOST_FAILED: Final = 0.01
"""Share of the requests that may fail for good; above it the step fails, and the next try asks them again."""
_REASON: Final = "passed its gate"


class LoopFailed(BessemerError):
    """A step of the loop did not work; the message says which and why."""

    code = "loop_failed"


class Scoring(Frozen, frozen=True):
    """What an answer is worth, in evaluations and cascades alike."""

    metric: MetricName = "accuracy"
    labels: tuple[str, ...] = ()
    """accuracy and f1: the labels that an answer may have."""
    positive: str | None = None
    """f1: the label that counts as positive."""
    grader: JSON | None = None
    """reward: the grader whose mean reward is the score."""


class Question(Frozen, frozen=True):
    """Something that an application wants answered."""

    id: str
    """Its name, by which its answer is found again."""
    input: JSON
    """Goes through the prompt of whatever answers."""
    split: str | None = None
    """The split of data sets that it belongs to; another word: none. None: by its hash."""


class ApplicationAnswer(Frozen, frozen=True):
    """What came back for a question; without text, `error` says why."""

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


class Tuned(Frozen, frozen=True):
    """A version, and the job that made it."""

    version: ModelVersion
    job: FineTuningJob


class LoopProgress(NamedTuple):
    """How far a step is."""

    step: str
    done: int
    total: int
    """0: not known."""
    message: str
    seconds: float | None = None
    """What the step took; None while it is not done."""

    def __str__(self) -> str:
        counted = f"{self.done:,} of {self.total:,} " if self.total else ""
        return f"{self.step}: {counted}{self.message}"


Tell = Callable[[LoopProgress], object]
Say = Callable[[ApplicationAnswer], Iterable[JSON]]
"""What people say about an answer: bodies of POST /v1/feedback, without the inference's id."""


class Loop:
    """One turn of the loop on one route, step by step. Steps of the same name and arguments are the same step."""

    def __init__(
        self,
        client: Client,
        route: str,
        scoring: Scoring = Scoring(),  # noqa: B008 - it is frozen
        folder: Path | None = None,
        *,
        tell: Tell = lambda _: None,
    ) -> None:
        """`folder`: where it remembers what is done; None: nowhere. `tell` hears how far it is."""
        self.client, self.route, self.scoring = client, route, scoring
        self._memory = Memory(folder)
        self._tell = tell

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds that each step took which is done, in their order."""
        return self._memory.seconds

    # -- what an application does -------------------------------------------------------------------------------------

    def ask(
        self,
        questions: Iterable[Question],
        model: str | None = None,
        *,
        step: str = "traffic",
        tags: Mapping[str, str] | None = None,
        temperature: float | None = None,
        concurrency: int = 32,
    ) -> list[ApplicationAnswer]:
        """Ask the route, or another `model`, each question; return the answers in their order.

        Each inference has the tag `question`, and those of `tags`. Raises LoopFailed when more than one in a hundred
        requests failed.
        """
        asked, target = list(questions), model or self.route
        kept = self._memory.lines(f"{content_hash([step, target])[:12]}.answers.jsonl", ApplicationAnswer)
        answers = {answer.question: answer for answer in kept.rows}

        def one(question: Question) -> ApplicationAnswer:
            answer = self._answer(question, target, tags or {}, temperature)
            if answer.error is None:
                kept.append(answer)
            return answer

        def work(_key: str) -> JSON:
            waiting = [question for question in asked if question.id not in answers]
            fresh = self._each(step, waiting, one, target, len(asked), concurrency)
            lost = [answer for answer in fresh if answer.error is not None]
            if len(lost) > len(asked) * _MOST_FAILED:
                raise LoopFailed(f"{len(lost)} of {len(asked)} requests to {target!r} failed: {lost[0].error}")
            for answer in lost:
                kept.append(answer)
            return {"answers": len(asked), "failed": len(lost)}

        self._once(step, [target, dict(tags or {}), [question.id for question in asked]], work, JSON)
        answers = {answer.question: answer for answer in kept.rows}
        return [answers[question.id] for question in asked]

    def judge(
        self, answers: Sequence[ApplicationAnswer], say: Say, *, step: str = "feedback", concurrency: int = 32
    ) -> int:
        """Record what `say` says of each answer that is one; return how many pieces of feedback there are.

        Killed, it may send the pieces again that were on their way.
        """
        bodies: list[JSON] = [
            {"inference_id": answer.inference_id, **body}
            for answer in answers
            if answer.error is None
            for body in say(answer)
        ]
        kept = self._memory.lines(f"{content_hash(step)[:12]}.feedback.jsonl", str)
        sent = set(kept.rows)

        def one(body: JSON) -> None:
            self.client.send(calls.give_feedback(body))
            kept.append(content_hash(body))

        def work(_key: str) -> int:
            waiting = [body for body in bodies if content_hash(body) not in sent]
            self._each(step, waiting, one, "feedback", len(bodies), concurrency)
            return len(bodies)

        return self._once(step, bodies, work, int)

    # -- what is made of it -------------------------------------------------------------------------------------------

    def collect(
        self,
        prompt: str | None = None,
        *,
        name: str | None = None,
        splits: Mapping[str, float] | None = None,
        supervised: bool = False,
        require_feedback: bool = True,
        step: str = "dataset",
    ) -> Dataset:
        """Freeze the route's inferences and their feedback, rendered through `prompt`; an input is in one split alone.

        `splits`: shares of the inputs by the split's name; None: the server's. `supervised`: rows end in the right
        answer, where one is known. Raises LoopFailed.
        """
        body = DatasetRequest(
            name=name or self.route,
            route=self.route,
            prompt=prompt,
            supervised=supervised,
            require_feedback=require_feedback,
        )
        if splits is not None:
            body = msgspec.structs.replace(body, splits={Split(name): share for name, share in splits.items()})
        return self._once(step, body, lambda _key: self.client.send(calls.create_dataset(body)), Dataset)

    def tune(
        self,
        dataset: Dataset,
        model: str,
        method: JSON,
        *,
        metadata: Mapping[str, str] | None = None,
        seed: int | None = None,
        step: str = "tuning",
    ) -> Tuned:
        """Fine-tune a local model, or a version of one, on a dataset's training rows; the selection split validates.

        `method` and `metadata` are those of POST /v1/fine_tuning/jobs. Raises LoopFailed.
        """
        body = FineTuningJobRequest(
            model=model,
            training_file=dataset.files[Split.TRAIN.value],
            validation_file=dataset.files.get(Split.SELECTION.value),
            seed=seed,
            method=method,
            metadata=dict(metadata) if metadata else None,
        )

        def work(key: str) -> Tuned:
            job = self._run(step, calls.FINE_TUNING, body, key)
            return Tuned(version=self.client.send(calls.get_version(job.fine_tuned_model or "")), job=job)

        return self._once(step, body, work, Tuned)

    def evaluate(
        self,
        dataset: Dataset,
        candidate: str,
        reference: str,
        *,
        others: Sequence[str] = (),
        margin: float | None = None,
        seed: int = 0,
        step: str = "evaluation",
    ) -> Evaluation:
        """Score systems on the held-out split, and ask the gate whether `candidate` is not worse than `reference`.

        `margin`: the loss that still counts as not worse; None: the operator's. Raises LoopFailed.
        """
        scoring = self.scoring
        body = EvaluationRequest(
            dataset=dataset.id,
            systems=list(dict.fromkeys([*(others or [reference]), candidate])),
            metric=scoring.metric,
            labels=scoring.labels,
            positive=scoring.positive,
            grader=scoring.grader,
            candidate=candidate,
            reference=reference,
            margin=margin,
            seed=seed,
        )
        return self._once(step, body, self._result(step, calls.EVALUATIONS, body, Evaluation), Evaluation)

    def ladder(
        self,
        dataset: Dataset,
        *,
        models: Sequence[str] = (),
        rungs: Sequence[str] = (),
        incumbent: str | None = None,
        quality: float | None = None,
        alpha: float = 0.02,
        delta: float = 0.1,
        seconds: float = 60.0,
        seed: int = 0,
        activate: bool = True,
        step: str = "ladder",
    ) -> LadderResult:
        """Fit rungs on the feedback and make the route the cheapest cascade of them that loses at most `alpha`.

        `models` join: versions of earlier ladders, tuned language models. What cannot be certified stays as it was
        (`applied`). Raises LoopFailed.
        """
        scoring = self.scoring
        if scoring.metric not in ("accuracy", "f1"):
            raise LoopFailed(f"Rungs choose among labels: {scoring.metric!r} scores other answers.")
        body = LadderRequest(
            route=self.route,
            dataset=dataset.id,
            incumbent=incumbent,
            rungs=tuple(rungs),
            models=tuple(models),
            metric=scoring.metric,
            labels=scoring.labels,
            positive=scoring.positive,
            quality=quality,
            alpha=alpha,
            delta=delta,
            seconds=seconds,
            seed=seed,
            activate=activate,
        )
        return self._once(step, body, self._result(step, calls.LADDERS, body, LadderResult), LadderResult)

    # -- what is served then ------------------------------------------------------------------------------------------

    def promote(
        self, evaluation: Evaluation, alias: str = "champion", *, reason: str = _REASON, step: str | None = None
    ) -> Alias:
        """Move an alias to the version whose gate an evaluation holds. Raises LoopFailed when it did not pass."""
        gate = evaluation.gate
        if gate is None or gate.candidate is None or not gate.passed:
            raise LoopFailed(f"Nothing to promote: {'no gate was asked.' if gate is None else gate.rule}")
        call = calls.promote(gate.candidate, PromoteBody(alias=alias, evaluation=evaluation.id, reason=reason))
        what = [alias, evaluation.id, reason]
        return self._once(step or f"promotion to {alias}", what, lambda _key: self.client.send(call), Alias)

    def cascade(
        self,
        dataset: Dataset,
        small: str,
        large: str,
        *,
        rule: CascadeRule = "loss",
        alpha: float = 0.02,
        delta: float = 0.1,
        score: ConfidenceScore = ConfidenceScore.CHOICE_MARGIN,
        step: str = "route",
    ) -> CascadeResult:
        """Make the route a cascade: `small` answers where it is sure enough, by a threshold with a guarantee.

        The route stays as it was where no threshold can be certified (`applied`). Raises LoopFailed.
        """
        scoring = self.scoring
        body = CascadeRequest(
            route=self.route,
            small=small,
            large=large,
            dataset=dataset.id,
            metric=scoring.metric,
            labels=scoring.labels,
            positive=scoring.positive,
            grader=scoring.grader,
            rule=rule,
            score=score,
            alpha=alpha,
            delta=delta,
        )
        return self._once(step, body, self._result(step, calls.CASCADES, body, CascadeResult), CascadeResult)

    def serve(self, target: str, *, reason: str = _REASON, step: str = "route") -> Route:
        """Give the route to one target. Raises LoopFailed."""
        body = RouteBody(name=self.route, targets=[target], reason=reason)
        return self._once(step, body, lambda _key: self.client.send(calls.create_route(body)), Route)

    # -- how a step is done -------------------------------------------------------------------------------------------

    def _once(self, step: str, what: Any, work: Callable[[str], T], kind: Any) -> T:
        """Do a step once in the life of the folder, and keep its result. Raises LoopFailed."""
        name = f"{step} {content_hash(msgspec.to_builtins(what))[:16]}"
        if (known := self._memory.done(name)) is not None:
            return as_type(known.result, kind)  # type: ignore[no-any-return]
        self._tell(LoopProgress(step, 0, 0, "started"))
        started = time.monotonic()
        try:
            result = work(self._memory.key(name))
        except _AtRest as error:
            raise LoopFailed(error.message) from None  # the same job, when it goes on
        except BessemerError as error:
            self._memory.failed(name)
            raise LoopFailed(f"{step}: {error.message}", code=error.error_code) from error
        seconds = time.monotonic() - started
        self._memory.keep(name, step, msgspec.to_builtins(result, str_keys=True), seconds)
        self._tell(LoopProgress(step, 0, 0, f"done in {seconds:.1f} s", seconds))
        return result

    def _each(
        self, step: str, items: Sequence[A], work: Callable[[A], T], what: str, total: int, concurrency: int
    ) -> list[T]:
        """Do something with each item, several at once; what is under way is finished when one raises."""
        results: list[T] = []
        before, told = total - len(items), 0.0
        with ThreadPoolExecutor(concurrency, thread_name_prefix="loop") as pool:
            futures = [pool.submit(work, item) for item in items]
            try:
                for done, future in enumerate(as_completed(futures), before + 1):
                    results.append(future.result())
                    if done == total or time.monotonic() - told > _TELL_EACH_S:
                        told = time.monotonic()
                        self._tell(LoopProgress(step, done, total, what))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return results

    def _answer(
        self, question: Question, model: str, tags: Mapping[str, str], temperature: float | None
    ) -> ApplicationAnswer:
        split = Split(question.split) if question.split in list(Split) else None
        extension = RequestExtension(input=question.input, tags={"question": question.id, **tags}, split=split)
        body = ChatRequest(model=model, messages=[], temperature=temperature, bessemer=extension)
        started = time.perf_counter()
        try:
            reply = self.client.send(calls.chat(body))
        except BessemerError as error:
            return failed(question.id, error.message, time.perf_counter() - started)
        facts, usage = reply.bessemer, reply.usage
        if facts is None:
            return failed(question.id, "the answer says no inference", time.perf_counter() - started)
        return ApplicationAnswer(
            question=question.id,
            inference_id=facts.inference_id,
            text=reply.choices[0].message.content,
            version=facts.version,
            provider=facts.provider,
            cost_usd=facts.cost_usd,
            escalated=facts.escalated,
            input_tokens=usage.prompt_tokens if usage else None,
            output_tokens=usage.completion_tokens if usage else None,
            latency_s=time.perf_counter() - started,
        )

    def _run(self, step: str, jobs: Jobs[B, J, E], body: B, key: str) -> J:
        """Make a job, or find the one of this key, and wait for its end. Raises BessemerError unless it succeeds."""
        made = self.client.send(jobs.create(body, key))
        job = self.client.wait(jobs, made.id, lambda event: self._tell(LoopProgress(step, 0, 0, event.message)))
        if job.status == JobStatus.PAUSED:
            raise _AtRest(f"{step}: job {job.id} is paused; resume it, and call this again.")
        if job.status != JobStatus.SUCCEEDED:
            raise BessemerError(f"job {job.id} is {job.status}")
        return job

    def _result(self, step: str, jobs: Jobs[B, JobObject, JobEvent], body: B, kind: type[T]) -> Callable[[str], T]:
        return lambda key: as_type(self._run(step, jobs, body, key).result, kind)


class _AtRest(BessemerError):
    """A job is paused."""


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
