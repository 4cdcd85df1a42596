"""One turn of the loop, driven from outside: traffic, feedback, dataset, tuning, evaluation, promotion, cascade, again.

A turn knows nothing of its task: questions, feedback and requests come in a `TurnPlan`. Each finished step is kept in
`turn.json`, answers in journals, and jobs are created under idempotency keys: a turn that was interrupted, at any
moment, continues where it stopped.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from bessemer.cli.demo.application import Application, ApplicationAnswer, Journal, Question, TurnFailed
from bessemer.cli.demo.progress import ProgressLine
from bessemer.client import calls
from bessemer.core.content import content_hash
from bessemer.core.lists import ListQuery
from bessemer.core.types import JSON, Frozen, as_json
from bessemer.core.wire import DatasetRequest, PromoteBody, RouteBody

GiveFeedback = Callable[[Question, ApplicationAnswer], Sequence[JSON]]
"""What people say about an answer: bodies of POST /v1/feedback without the inference id."""


class JobPlan(Frozen, frozen=True):
    """One fine-tuning job; it starts from the version of the job before it, the first one from the plan's model."""

    name: str
    method: JSON
    metadata: dict[str, str]
    supervised: bool = False
    """Train on demonstrations: the dataset's files end in the demonstrated answer."""
    from_base: bool = False
    """Start from the plan's model even when another job ran before."""


class Final(Frozen, frozen=True):
    """A system to ask at the end, and which questions."""

    name: str
    target: str
    """A route, model or version; `{tuned}` is the last tuned version, `{JOB}` that of the job of this name."""
    questions: tuple[Question, ...]
    cascade: bool | None = None
    """Ask only when the cascade is in force (True) or not (False); None: always."""


class TurnPlan(Frozen, frozen=True):
    """Everything a turn asks for."""

    name: str
    seed: int
    route: str
    model: str
    """The small model that is tuned."""
    prompt: str
    questions: tuple[Question, ...]
    """Traffic, each in its split."""
    jobs: tuple[JobPlan, ...]
    metric: JSON
    """`metric`, `labels`, `positive`, `grader`, as far as the metric needs them."""
    gate_reference: str
    gate_margin: float
    cascade: JSON | None
    """`large`, `rule`, `alpha` ... of POST /v1/cascades, beside the metric; None: the tuned version takes the route."""
    finals: tuple[Final, ...]
    evaluated: tuple[str, ...]
    """Targets that the evaluation scores beside the tuned version."""
    require_feedback: bool = True
    """Train on judged requests alone; False: a grader judges the others too."""


class TurnResult(Frozen, frozen=True):
    """What a turn produced."""

    versions: dict[str, str]
    """Tuned version by job name."""
    jobs: dict[str, JSON]
    events: dict[str, list[JSON]]
    dataset: JSON
    evaluation: JSON
    cascade: JSON | None
    """Result of the cascade job; None when there was none."""
    route: JSON
    traffic: list[ApplicationAnswer]
    finals: dict[str, list[ApplicationAnswer]]
    seconds: dict[str, float]


class Turn:
    """Runs a plan against one server."""

    def __init__(
        self, plan: TurnPlan, feedback: GiveFeedback, application: Application, folder: Path, progress: ProgressLine
    ) -> None:
        self._plan, self._feedback, self._app, self._progress = plan, feedback, application, progress
        self._folder = folder
        self._path = folder / "turn.json"
        self._failures = folder / "failures.log"
        folder.mkdir(parents=True, exist_ok=True)
        self._state: dict[str, JSON] = msgspec.json.decode(self._path.read_bytes()) if self._path.exists() else {}

    async def run(self) -> TurnResult:
        """Run every step that is not done yet. Raises TurnFailed when one does not work."""
        traffic = await self._traffic()
        await self._step("feedback", lambda: self._post_feedback(traffic))
        dataset = await self._step("dataset", lambda: self._dataset(supervised=False))
        if any(job.supervised for job in self._plan.jobs):
            await self._step("dataset of demonstrations", lambda: self._dataset(supervised=True))
        versions: dict[str, str] = {}
        jobs: dict[str, JSON] = {}
        for job in self._plan.jobs:
            jobs[job.name] = await self._step(f"tuning ({job.name})", self._tuner(job, versions))
            versions[job.name] = versions["tuned"] = jobs[job.name]["version"]
        evaluation = await self._step("evaluation", lambda: self._evaluate(versions["tuned"], dataset["id"]))
        cascade: JSON | None = None
        if evaluation["gate"]["passed"]:
            await self._step("promotion", lambda: self._promote(versions["tuned"], evaluation))
            made = await self._step("route", lambda: self._route(versions["tuned"], dataset["id"]))
            cascade = made if self._plan.cascade is not None else None
        else:
            self._progress.say(f"not promoted: {evaluation['gate']['rule']}")
        applied = bool(cascade and cascade["applied"])
        finals = {
            final.name: await self._final(final, versions)
            for final in self._plan.finals
            if final.questions and final.cascade in (None, applied)
        }
        events = {name: await self._events(job["id"]) for name, job in jobs.items()}
        return TurnResult(
            versions=versions,
            jobs=jobs,
            events=events,
            dataset=dataset,
            evaluation=evaluation,
            cascade=cascade,
            route=as_json(await self._app.send(calls.get_route(self._plan.route))),
            traffic=traffic,
            finals=finals,
            seconds={name: step["seconds"] for name, step in self._state.items()},
        )

    async def _step(self, name: str, work: Callable[[], Awaitable[JSON]]) -> JSON:
        """Do a step once in the life of the folder, and keep its result."""
        if name not in self._state:
            self._progress.step(name)
            started = time.monotonic()
            try:
                result = await work()
            except TurnFailed as error:
                with self._failures.open("a") as file:
                    file.write(f"{name}: {error.message}".replace("\n", " ") + "\n")
                raise
            self._keep(name, result, time.monotonic() - started)
        result = self._state[name]["result"]
        assert isinstance(result, dict)
        return result

    def _keep(self, name: str, result: JSON, seconds: float) -> None:
        self._state[name] = {"result": result, "seconds": seconds}
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(self._state))
        fresh.replace(self._path)
        self._progress.say(f"{name}: done in {seconds:.1f} s")

    def _key(self, body: JSON) -> str:
        """The same job is not created twice, unless a step has failed since."""
        failed = len(self._failures.read_text().splitlines()) if self._failures.exists() else 0
        return content_hash([str(self._folder.resolve()), body, failed])[:32]

    async def _traffic(self) -> list[ApplicationAnswer]:
        return await self._ask("traffic", self._plan.questions, self._plan.route, {})

    async def _ask(
        self, name: str, questions: Sequence[Question], target: str, tags: Mapping[str, str]
    ) -> list[ApplicationAnswer]:
        journal = Journal(self._folder / f"{content_hash(name)[:12]}.answers.jsonl")

        async def work() -> JSON:
            answers = await self._app.ask_all(questions, target, journal, self._progress.notice, tags=tags)
            failed = [answer for answer in answers if answer.error is not None]
            if len(failed) > len(answers) // 100:
                raise TurnFailed(f"{len(failed)} of {len(answers)} requests to {target!r} failed: {failed[0].error}")
            for answer in failed:
                journal.append(answer)
            return {"answers": len(answers), "failed": len(failed)}

        await self._step(name, work)
        return [journal.answers[question.id] for question in questions]

    async def _post_feedback(self, traffic: Sequence[ApplicationAnswer]) -> JSON:
        asked = {question.id: question for question in self._plan.questions}
        bodies = [
            {"inference_id": answer.inference_id, **body}
            for answer in traffic
            if answer.error is None
            for body in self._feedback(asked[answer.question], answer)
        ]
        await self._app.feedback_all(bodies, self._progress.notice)
        return {"feedback": len(bodies)}

    async def _dataset(self, *, supervised: bool) -> JSON:
        suffix = "-demonstrations" if supervised else ""
        body = DatasetRequest(
            name=self._plan.name + suffix,
            route=self._plan.route,
            prompt=self._plan.prompt,
            supervised=supervised,
            require_feedback=self._plan.require_feedback or supervised,
        )
        return as_json(await self._app.send(calls.create_dataset(body)))

    async def _events(self, job_id: str) -> list[JSON]:
        """Return all events of a fine-tuning job, oldest first."""
        pages = self._app.client.each(calls.FINE_TUNING.events(job_id, ListQuery(limit=100)))
        return [as_json(event) async for event in pages][::-1]

    def _tuner(self, job: JobPlan, versions: Mapping[str, str]) -> Callable[[], Awaitable[JSON]]:
        async def work() -> JSON:
            step = "dataset of demonstrations" if job.supervised else "dataset"
            files = self._state[step]["result"]["files"]
            body: JSON = {
                "model": self._plan.model if job.from_base or "tuned" not in versions else versions["tuned"],
                "training_file": files["train"],
                "seed": self._plan.seed,
                "method": job.method,
                "metadata": job.metadata,
            }
            if "selection" in files:
                body["validation_file"] = files["selection"]
            made = await self._app.fine_tune(body, self._key(body), self._progress.notice)
            version = await self._app.send(calls.get_version(made["fine_tuned_model"]))
            return {**made, "version": version.id}

        return work

    async def _evaluate(self, version: str, dataset: str) -> JSON:
        body: JSON = {
            "dataset": dataset,
            "systems": [*self._plan.evaluated, version],
            "candidate": version,
            "reference": self._plan.gate_reference,
            "margin": self._plan.gate_margin,
            "seed": self._plan.seed,
            **self._plan.metric,
        }
        job = await self._app.run_job(calls.EVALUATIONS, body, self._key(body), self._progress.notice)
        result = job["result"]
        assert isinstance(result, dict)
        return result

    async def _promote(self, version: str, evaluation: JSON) -> JSON:
        """A version that passed its gate becomes challenger, then champion."""
        moved: JSON = {}
        for name in ("challenger", "champion"):
            body = PromoteBody(alias=name, evaluation=evaluation["id"], reason="passed its gate")
            moved = as_json(await self._app.send(calls.promote(version, body)))
        return moved

    async def _route(self, version: str, dataset: str) -> JSON:
        """Turn the route into a cascade, or give it to the tuned version where there is no incumbent."""
        if self._plan.cascade is None:
            route = RouteBody(name=self._plan.route, targets=[version], reason="passed its gate")
            return as_json(await self._app.send(calls.create_route(route)))
        common = {"route": self._plan.route, "dataset": dataset, "small": version}
        body: JSON = {**common, **self._plan.metric, **self._plan.cascade}
        job = await self._app.run_job(calls.CASCADES, body, self._key(body), self._progress.notice)
        result = job["result"]
        assert isinstance(result, dict)
        return result

    async def _final(self, final: Final, versions: Mapping[str, str]) -> list[ApplicationAnswer]:
        target = final.target.format_map(versions)
        return await self._ask(f"final ({final.name})", final.questions, target, {"origin": "final"})
