"""One fine-tuning job as it runs: the tuner and its grader, events and checkpoints for the API, the new version."""

import csv
import io
import math
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import msgspec

from bessemer.core.ids import new_id
from bessemer.core.models import ModelVersion
from bessemer.core.types import JSON
from bessemer.evals import graders
from bessemer.evals.grader import Grader, GraderServices
from bessemer.gateway.pipeline import on_behalf_of
from bessemer.gateway.providers.adapters import unpack_adapter
from bessemer.jobs.kinds import keep_progress
from bessemer.registry.catalog import Catalog
from bessemer.registry.weights import WeightsSettings, check_model
from bessemer.store import audit, files, job_rows
from bessemer.store.blobs import BlobStore
from bessemer.store.database import Database
from bessemer.store.files import FileRow
from bessemer.store.job_rows import JobCheckpoint, JobRow
from bessemer.tuning.accounts import duration, headline, step_metrics, valid_metrics, warning_of
from bessemer.tuning.comparison import CheckpointComparison, compare
from bessemer.tuning.local import LocalBackend
from bessemer.tuning.methods import named
from bessemer.tuning.preparation import (
    Preparation,
    Rows,
    base_model,
    job_request,
    load_rows,
    prepare,
    tuned_version,
)
from bessemer.tuning.probing import probing_seconds, weaknesses
from bessemer.tuning.progress import Start
from bessemer.tuning.results import FineTuningProgress, FineTuningResult
from bessemer.tuning.selection import CheckpointScorer
from bessemer.tuning.spec import RewardFunction, RewardValue, StepReport, TuneSpec
from bessemer.tuning.tuner import Tuner
from bessemer.tuning.watch import TimeUp, Watch
from bessemer.tuning.wishes import Wishes

CHUNK_SECONDS = 15.0
"""Training between two durable steps: what a kill can cost at most."""
RESULTS_PURPOSE = "fine-tune-results"


@dataclass(frozen=True)
class TuningServices:
    """The parts of a running installation that fine-tuning jobs use."""

    database: Database
    blobs: BlobStore
    catalog: Catalog
    graders: GraderServices
    jobs_dir: Path
    threads: int | None
    organization: str
    code_commit: str | None

    def of_job(self, row: JobRow) -> "TuningServices":
        """Return the parts as a job sees them: those of its project, judges asked on behalf of the key that made it."""
        principal = on_behalf_of(row.key_id, row.project_id, row.models)
        return replace(
            self,
            database=self.database.within(row.project_id),
            catalog=self.catalog.seen_by(principal),
            graders=self.graders.asked_by(principal),
        )


class TuningRun:
    """A job with its tuner in memory; everything that must survive is in the job's folder and the database."""

    def __init__(
        self,
        services: TuningServices,
        job_id: str,
        plan: Preparation,
        tuner: Tuner,
        rows: Rows,
        grader: Grader | None,
        wishes: Wishes,
        watch: Watch,
    ) -> None:
        self.job_id = job_id
        self._services = services
        self._plan = plan
        self._tuner = tuner
        self._rows = rows
        self._grader = grader
        self._wishes = wishes
        self._watch = watch
        self._reports = services.jobs_dir / job_id / "steps.jsonl"
        self._opened, self._seconds_before = time.monotonic(), tuner.seconds

    @classmethod
    def open(cls, services: TuningServices, job_id: str) -> Self:
        """Prepare a job, or continue it from its saved state.

        Raises InvalidRequest, NotFound, TuningError; StopRequested when a wish is left meanwhile.
        """
        folder = services.jobs_dir / job_id
        folder.mkdir(parents=True, exist_ok=True)
        services = services.of_job(job_rows.get(services.database, job_id))
        plan = _plan(services, job_id, folder / "plan.json")
        rows = load_rows(plan, services.blobs)
        grader = None if plan.grader is None else graders.build(plan.grader, services.graders)
        wishes = Wishes(services.database, job_id)
        watch = Watch(wishes.heed)
        try:
            spec = _spec(services, plan, len(rows.training), folder)
            tuner = Tuner(
                spec,
                rows.training,
                rows.validation,
                None if grader is None else _reward(grader, watch),
                folder / "state",
                LocalBackend(spec, heed=watch),
                judge=_judge(plan),
                watch=watch,
            )
        except BaseException:
            if grader is not None:
                grader.close()
            raise
        return cls(services, job_id, plan, tuner, rows, grader, wishes, watch)

    def announce(self) -> None:
        """Tell what is about to be done, and what its grader pays for that deserves nothing. Raises StopRequested."""
        plan, rows = self._plan, self._rows
        self._event(
            f"Fine-tuning {plan.start} by {plan.algorithm} on {len(rows.training)} rows "
            f"({len(rows.validation)} for validation), at most {self._tuner.total_steps} steps",
            "started",
        )
        self._estimate()
        if self._grader is None or plan.grader is None:
            return
        try:
            with self._watch.within(probing_seconds(plan.options.max_seconds)):
                found = self._watch.wait(weaknesses(self._grader, plan.grader, rows.training, plan.choices))
        except TimeUp:
            self._event("The grader is too slow to be probed before training: it was not.", "grader", level="warn")
            return
        for number, finding in enumerate(found):
            honest = "unknown" if finding.honest is None else finding.honest
            earned = f"'{finding.probe}' earns {finding.reward}, honest answers {honest}"
            self._event(f"Grader warning: {finding.message} ({earned})", f"grader-{number}", level="warn")

    def train_chunk(self) -> bool:
        """Take optimizer steps for some seconds and save; True when the job is done.

        Raises StopRequested at a wish in the middle of a long step: the run is then continued from what is saved.
        """
        ends = time.monotonic() + CHUNK_SECONDS
        self._wishes.step_begins()
        if self._tuner.step_number == 0:
            self._tell_start(self._tuner.begin())
        while not self._tuner.done and time.monotonic() < ends:
            self._wishes.step_begins()
            report = self._tuner.step()
            self._tell(report)
            if job_rows.control(self._services.database, self.job_id) is not None:
                break
        self._tuner.save()
        self._estimate()
        done: bool = self._tuner.done
        return done

    def register(self) -> FineTuningResult:
        """Register the best checkpoint as a version; returns the job's result.

        Raises TuningError (learned_nothing) when the run has nothing to show.
        """
        self._tuner.require_learned()
        version = self._version()
        reports = self._read_reports()
        chosen = self._tuner.step_number if self._tuner.best is None else self._tuner.best.step
        for report in reports:
            if report.step == chosen:  # a job without evaluations has made none on its way
                self._checkpoint(report, version)
        result_file = self._result_file(reports)
        best, start = self._tuner.best, self._tuner.start
        comparison = self._comparison()
        warning = warning_of(best, start, comparison)
        if warning is not None:
            self._event(warning, "not-better", level="warn")
        return FineTuningResult(
            fine_tuned_model=self._services.catalog.openai_name(version, self._services.organization),
            version=version.id,
            result_files=(result_file,),
            trained_tokens=int(sum(report.metrics.get("tokens", 0.0) for report in reports)),
            choice_bias=version.choice_bias,
            field_threshold=version.field_threshold,
            best_step=best.step if best else None,
            best_score=best.score if best else None,
            start_score=start.validation.score if start else None,
            comparison=comparison,
            warnings=() if warning is None else (warning,),
            compute_seconds=self._tuner.seconds,
            cost_usd=self._cost(),
        )

    def close(self) -> None:
        """Give back the grader's processes; the model goes with this object."""
        if self._grader is not None:
            self._grader.close()

    def _version(self) -> ModelVersion:
        """Export the best adapter so far and register it; the same adapter gives the same version."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "adapter"
            self._tuner.export(folder)
            archive = Path(scratch) / "adapter.tar"
            _pack(folder, archive)
            adapter = self._services.blobs.put(archive)
        row = job_rows.get(self._services.database, self.job_id)
        version = tuned_version(
            self._plan,
            row,
            adapter,
            choice_bias=self._choice_bias(),
            field_threshold=self._field_threshold(),
            code_commit=self._services.code_commit,
        )
        return self._services.catalog.register(version)

    def _field_threshold(self) -> float:
        given = self._plan.options.field_threshold
        if given != "auto":
            return given
        return 0.0 if self._tuner.best is None else self._tuner.best.field_threshold

    def _choice_bias(self) -> tuple[float, ...]:
        best = self._tuner.best
        return () if best is None else _judge(self._plan).choice_bias(best)

    def _comparison(self) -> CheckpointComparison | None:
        """Return how the chosen checkpoint compares with the start, by the metric that chose it.

        Of sampled answers that nobody judged, the start's count as the best and the checkpoint's as the worst.
        """
        best, start = self._tuner.best, self._tuner.start
        if best is None or start is None or best.step == 0:
            return None
        judge = _judge(self._plan)
        sides = [judge.terms(validation, side) for validation, side in ((start.validation, 1), (best, 0))]
        return compare(sides[0], sides[1], self._tuner.looks)

    def _cost(self) -> float | None:
        """Return what the computing cost so far by the model's hourly price, judges left out; None without one."""
        price = self._services.catalog.model(self._plan.model).price
        rate = None if price is None else self._services.catalog.price(price).per_hour
        return None if rate is None else self._tuner.seconds / 3600 * rate

    def _tell_start(self, start: Start | None) -> None:
        if start is None:
            return
        said = ", ".join(headline({}, start.validation)) or "could not be scored"
        data = {"step": 0, "rows": len(start.rows), "evaluations": start.evaluations}
        data |= valid_metrics(start.validation)
        self._event(f"Start: {said}, on {len(start.rows)} validation rows", "start", data)

    def _tell(self, report: StepReport) -> None:
        with self._reports.open("ab") as file:
            file.write(msgspec.json.encode(report) + b"\n")
        done, left, cost = self._tuner.share_done, self._seconds_left(), self._cost()
        data: JSON = {"step": report.step, "total_steps": report.total_steps} | step_metrics(report)
        data |= {"share_done": done, "seconds_left": left, "cost_usd": cost}
        facts = [*headline(report.metrics, report.validation), f"{done:.0%} done"]
        facts += [] if left is None else [f"{duration(left)} left"]
        facts += [] if cost is None else [f"${cost:.4f} so far"]
        told = f"Step {report.step}/{report.total_steps}: {', '.join(facts)}"
        self._event(told, f"step-{report.step}", {name: value for name, value in data.items() if value is not None})
        if report.note is not None:
            self._event(report.note, f"note-{report.step}", level="warn")
        best = self._tuner.best
        if report.validation is not None and best is not None and best.step == report.validation.step:
            self._checkpoint(report, self._version())

    def _checkpoint(self, report: StepReport, version: ModelVersion) -> None:
        """Keep the best version so far where clients can see and use it; a second time changes nothing."""
        name = self._services.catalog.openai_name(version, self._services.organization) or version.id
        job_rows.append_checkpoint(
            self._services.database,
            JobCheckpoint(
                id=f"ftckpt-{self.job_id}-{report.step}",
                job_id=self.job_id,
                created_at=time.time(),
                step=report.step,
                version=name,
                metrics={"step": report.step} | step_metrics(report),
            ),
        )
        self._event(f"Checkpoint created at step {report.step}: {name}", f"checkpoint-{report.step}")

    def _seconds_left(self) -> float | None:
        """Return the tuner's estimate, stretched by what goes on beside its steps and evaluations."""
        left, computed = self._tuner.seconds_left, self._tuner.seconds - self._seconds_before
        if left is None or computed < 1.0:
            return left
        return float(left) * max(1.0, (time.monotonic() - self._opened) / computed)

    def _estimate(self) -> None:
        """Say how far the job is and when it will be done, at the pace so far."""
        left = self._seconds_left()
        progress = FineTuningProgress(
            estimated_finish=None if left is None else int(time.time() + left),
            share_done=self._tuner.share_done,
            compute_seconds=self._tuner.seconds,
            cost_usd=self._cost(),
        )
        keep_progress(self._services.database, self.job_id, progress)

    def _read_reports(self) -> list[StepReport]:
        """Return the steps' reports once each, in order: steps repeated after a kill are told twice in the file."""
        if not self._reports.exists():
            return []
        decode = msgspec.json.Decoder(StepReport).decode
        lines = [line for line in self._reports.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        reports = {report.step: report for report in map(decode, lines)}
        return [reports[step] for step in sorted(reports)]

    def _result_file(self, reports: Sequence[StepReport]) -> str:
        """Write the metrics of every step as OpenAI's result file (CSV), step 0 the start; returns the file id."""
        start = self._tuner.start
        rows = [] if start is None else [{"step": 0} | valid_metrics(start.validation)]
        rows += [{"step": report.step} | step_metrics(report) for report in reports]
        names = {name for row in rows for name in row} | {"valid_loss", "valid_score", "valid_reward"}
        text = io.StringIO()
        writer = csv.DictWriter(text, ["step", *sorted(names - {"step"})], restval="")
        writer.writeheader()
        writer.writerows(rows)
        content = text.getvalue().encode()
        row = FileRow(
            id=new_id("file"),
            sha256=self._services.blobs.put(content),
            bytes=len(content),
            created_at=time.time(),
            filename="step_metrics.csv",
            purpose=RESULTS_PURPOSE,
            key_id=job_rows.get(self._services.database, self.job_id).key_id,
        )
        with self._services.database.transaction():
            files.insert(self._services.database, row)
            detail = {"bytes": row.bytes, "sha256": row.sha256, "job": self.job_id}
            audit.append(self._services.database, audit.SYSTEM, "file.created", row.id, detail)
        return row.id

    def _event(self, message: str, key: str, data: JSON | None = None, level: Literal["info", "warn"] = "info") -> None:
        job_rows.append_event(
            self._services.database,
            self.job_id,
            message,
            level=level,
            type="message" if data is None or data.get("step") == 0 else "metrics",
            data=data,
            event_id=f"ftevent-{self.job_id}-{key}",
        )


def _plan(services: TuningServices, job_id: str, path: Path) -> Preparation:
    """Return the job's plan: made once, then read, so that a changed configuration cannot change a running job."""
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=Preparation)
    request = job_request(job_rows.get(services.database, job_id))
    services.catalog.refresh()  # what the API process changed before it queued the job
    plan = prepare(request, services.catalog, services.database)
    partial = path.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(plan))
    partial.replace(path)
    return plan


def _spec(services: TuningServices, plan: Preparation, rows: int, folder: Path) -> TuneSpec:
    model = base_model(plan, services.catalog)
    check_model(model)
    adapter = None
    if plan.adapter_sha256 is not None:
        unpack_adapter(services.blobs, plan.adapter_sha256, folder / "start")
        adapter = str(folder / "start")
    method, options = named(plan.algorithm), plan.options
    hyper = method.read_hyperparameters(plan.hyperparameters)
    multiplier = 1.0 if hyper.learning_rate_multiplier == "auto" else float(hyper.learning_rate_multiplier)
    epochs = method.epochs(rows, options) if hyper.n_epochs == "auto" else float(hyper.n_epochs)
    spec = TuneSpec(
        base=model.settings_as(WeightsSettings).path,
        method=method.name,
        own=method.configure(hyper, options),
        choices=plan.choices,
        rank=options.rank,
        adapter=adapter,
        epochs=epochs,
        batch_size=min(rows, method.prompts_per_step if hyper.batch_size == "auto" else int(hyper.batch_size)),
        learning_rate=method.learning_rate * multiplier,
        seed=plan.seed,
        max_tokens=plan.max_tokens,
        response_schema=plan.response_schema,
        grammar=plan.grammar,
        field_threshold=None if options.field_threshold == "auto" else options.field_threshold,
        max_seconds=options.max_seconds,
        threads=services.threads,
        context_tokens=model.context_tokens,
    )
    assert spec.batch_size is not None
    evaluations = method.evaluations(hyper, math.ceil(rows * epochs / spec.batch_size), spec.evaluations)
    return msgspec.structs.replace(spec, evaluations=evaluations)


def _judge(plan: Preparation) -> CheckpointScorer:
    return named(plan.algorithm).judge(plan.options, plan.choices)


def _reward(grader: Grader, watch: Watch) -> RewardFunction:
    def reward(pairs: Sequence[tuple[JSON, str]]) -> list[RewardValue]:
        results = watch.wait(grader.grade_many([(text, item) for item, text in pairs]))
        return [result.reward if result.failure is None else result.failure for result in results]

    return reward


def _pack(folder: Path, archive: Path) -> None:
    """Pack a folder so that equal content gives equal bytes: sorted names, no dates, no owners."""
    with tarfile.open(archive, "w") as tar:
        for path in sorted(folder.iterdir()):
            info = tarfile.TarInfo(path.name)
            info.size = path.stat().st_size
            with path.open("rb") as file:
                tar.addfile(info, file)
