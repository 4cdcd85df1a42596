"""The composition root: builds every part from settings, in one place. Both processes use it, the API and the worker.

Opening starts threads and opens files; `close` undoes that. Nothing here runs on import.
"""

import asyncio
import gc
import os
import subprocess
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

import msgspec
import structlog

from bessemer.core.access import Action, Principal, Resource, ResourceKind
from bessemer.core.conversation import AnswerRules, Conversation, JsonSchema, Sampling, message_of
from bessemer.core.errors import NotFound
from bessemer.core.ids import follow_id
from bessemer.core.inferences import JUDGED
from bessemer.core.scrub import hide
from bessemer.core.settings import Settings
from bessemer.core.types import JSON
from bessemer.engine.extra import check_installed
from bessemer.evals.grader import GraderServices, Judge, JudgeCall, JudgeReply
from bessemer.evals.sandbox import SandboxError, isolation
from bessemer.flywheel.services import FlywheelServices
from bessemer.flywheel.watch import RouteWatch, levels
from bessemer.gateway.alike import AlikeQuestions
from bessemer.gateway.answer_cache import AnswerCache
from bessemer.gateway.limits import UsageLimits
from bessemer.gateway.pipeline import INTERNAL, Gateway
from bessemer.gateway.providers import build_providers, provider_context, settings_of
from bessemer.gateway.stages import with_recorder
from bessemer.http.grading import Grading
from bessemer.http.probe import DatabaseProbe
from bessemer.http.services import ApiServices
from bessemer.identity.keys import Keys
from bessemer.identity.policy import FailClosed, Policy, RolePolicy
from bessemer.registry.catalog import Catalog
from bessemer.registry.config import load_config
from bessemer.runtime.embedding import FOLDER, brought, embed_by
from bessemer.runtime.extensions import load_extensions
from bessemer.store import feedback, plans, revisions, usage_backlog
from bessemer.store.blob_folder import BlobFolder
from bessemer.store.database import Database
from bessemer.store.leases import Leases
from bessemer.store.local_counters import LocalCounters
from bessemer.store.polled_notices import PolledNotices
from bessemer.store.spool import Spool
from bessemer.store.writer import Writer
from bessemer.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from bessemer.engine.engine import Engine

log = structlog.get_logger("bessemer.compose")


def open_services(
    settings: Settings,
    loop: asyncio.AbstractEventLoop,
    *,
    engine_idle_s: float | None = None,
    write_patience_s: float = 30.0,
) -> ApiServices:
    """Build everything. `loop`: where the gateway runs, whoever asks it; its connections belong to this loop.

    `engine_idle_s`: engines of local models are released after so long a rest. `write_patience_s`: how long a write to
    the database waits for those of others.

    Raises ConfigError for wrong settings or configuration, StoreError when the database cannot be opened.
    """
    extensions = load_extensions()
    settings.data.mkdir(parents=True, exist_ok=True)
    config = load_config(settings.config_path, settings.data, settings_of(extensions.providers))
    for model in config.models.values():
        for secret in model.settings.secrets(f"models.{model.name}", os.environ):
            hide(secret)
    embed = embed_by(settings)
    database = Database.open(settings, patience_s=write_patience_s)
    database.watch()
    follow_id(feedback.newest_id(database) or "")  # the clock may have been set back since
    plans.take_in(database, settings.data / "plans")
    usage_backlog.count_backlog(database)
    blobs = BlobFolder(settings.data / "blobs")
    catalog = Catalog(config, database)
    journal = Spool.open(database, settings.data / "spool")
    writer = Writer(database, journal, settings.writer_max_queue, required=settings.record == "required")
    metrics = Metrics()
    metrics.watch_writer(writer.stats)
    engines = _Engines(settings)
    metrics.watch_engine(engines.state)
    context = provider_context(
        catalog,
        blobs,
        settings.data,
        os.environ,
        engines.open,
        engine_memory=settings.engine_memory_bytes,
        encoder=settings.embedding_model or settings.models_dir / FOLDER,
        bring_encoder=None if settings.embedding_model is not None else lambda: brought(settings),
        engine_idle_s=engine_idle_s,
    )
    providers = build_providers(extensions.providers, context)
    metrics.watch_rungs(lambda: levels(catalog))
    policy = FailClosed(RolePolicy())
    answers = AnswerCache(settings.cache_bytes, AlikeQuestions(context.networks.embedded, metrics), metrics=metrics)
    leases = Leases(database)
    limited = UsageLimits(config.limits, leases).around(extensions.stages.around(answers))
    stages = with_recorder(writer, limited, metrics=metrics)
    gateway = Gateway(catalog, providers, stages, policy, metrics=metrics)
    graders = GraderServices(
        judge=_judge(gateway, loop),
        find_judge=_find_judge(catalog, policy),
        embed=embed,
        runtime=settings.grader_runtime,
        unfenced=settings.unfenced_graders,
    )
    keys = Keys(database)
    keys.note_uses()
    notices = PolledNotices(database)
    notices.subscribe(revisions.KEYS, keys.refresh)
    notices.subscribe(revisions.REGISTRY, catalog.refresh)
    notices.subscribe(revisions.ERASED, answers.clear)
    notices.start()
    return ApiServices(
        settings=settings,
        database=database,
        database_probe=DatabaseProbe(database),
        blobs=blobs,
        catalog=catalog,
        gateway=gateway,
        answers=answers,
        keys=keys,
        policy=policy,
        notices=notices,
        counters=LocalCounters(),
        leases=leases,
        writer=writer,
        metrics=metrics,
        graders=graders,
        grading=Grading(),
        graders_fence=_graders_fence(settings),
        flywheel=FlywheelServices(
            database=database,
            blobs=blobs,
            catalog=catalog,
            gateway=gateway,
            writer=writer,
            graders=graders,
            policy=policy,
            wait=_waiter(loop),
            networks=context.networks,
        ),
        watch=RouteWatch(),
        started_at=time.time(),
        code_commit=code_commit(),
    )


async def close_services(services: ApiServices) -> None:
    """Stop what `open_services` started; everything accepted so far is written first."""
    services.grading.close()
    await services.gateway.close()
    await services.leases.close()
    services.notices.close()
    services.keys.close()
    await asyncio.to_thread(services.writer.close)
    services.database.close()


def _graders_fence(settings: Settings) -> JSON:
    """Return what keeps graders' code in on this machine, and log it once, at start. Blocking."""
    found: JSON
    try:
        held = isolation(settings.grader_runtime)
        runs = held.fenced or settings.unfenced_graders
        found = {"code_graders": "run" if runs else "refused", "fenced": held.fenced, **msgspec.to_builtins(held)}
    except SandboxError as error:
        log.warning("graders.isolation", code_graders="refused", fenced=False, reason=error.kind)
        return {"code_graders": "refused", "fenced": False}
    tell = log.info if held.fenced else log.warning
    tell("graders.isolation", **found)
    return found


class _EngineState(NamedTuple):
    running: int
    waiting: int


class _Engines:
    """Opens engines for the local provider and sums up their state; torch is imported with the first one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened: WeakSet[Engine] = WeakSet()

    def open(self, path: Path) -> "Engine":
        check_installed()
        from bessemer.engine.engine import Engine

        engine = Engine(path, threads=self._settings.torch_threads, max_waiting=self._settings.engine_max_queue)
        self._opened.add(engine)
        gc.freeze()  # torch and all that came with it stays: see `serve`
        return engine

    def state(self) -> _EngineState:
        stats = [engine.stats() for engine in tuple(self._opened)]
        return _EngineState(sum(one.running for one in stats), sum(one.waiting for one in stats))


def _waiter(loop: asyncio.AbstractEventLoop) -> Any:
    def wait(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    return wait


def _find_judge(catalog: Catalog, policy: Policy) -> Callable[[str, Principal | None], object]:
    """Return what looks a judge up among what the one who asks may ask for."""

    def find(name: str, principal: Principal | None) -> object:
        if principal is None:
            return catalog.route_or_target(name)
        route = Resource(kind=ResourceKind.ROUTE, id=name, project_id=principal.project_id)
        if not policy.decide(principal, Action.ROUTE_INVOKE, route).allowed:
            raise NotFound(f"There is no model {name!r} that this key may ask for.", param="model")
        return catalog.seen_by(principal).route_or_target(name)

    return find


def _judge(gateway: Gateway, loop: asyncio.AbstractEventLoop) -> Judge:
    """Return the judge of score_model graders: any servable model, asked through the gateway and recorded."""

    async def judge(call: JudgeCall) -> JudgeReply:
        if asyncio.get_running_loop() is loop:
            return await ask(call)
        # A training job grades each batch on a loop of its own.
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(ask(call), loop))

    async def ask(call: JudgeCall) -> JudgeReply:
        sampling = call.sampling
        conversation = Conversation(
            model=call.model,
            messages=tuple(message_of(said, f"messages[{index}]") for index, said in enumerate(call.messages)),
            sampling=Sampling(
                temperature=sampling.get("temperature"),
                top_p=sampling.get("top_p"),
                seed=sampling.get("seed"),
                max_tokens=sampling.get("max_completions_tokens"),
            ),
            rules=AnswerRules(constraint=JsonSchema(schema=call.response_schema), requested="response_format"),
        )
        conversation.sampling.check()
        answered = await gateway.answer(conversation, call.principal or INTERNAL, origin=JUDGED)
        usage, total = answered.reply.usage, None
        if usage is not None and usage.input_tokens is not None and usage.output_tokens is not None:
            total = usage.input_tokens + usage.output_tokens
        return JudgeReply(text=answered.inference.output, model=call.model, total_tokens=total)

    return judge


def code_commit() -> str | None:
    """Return the commit of the source this runs from, or None when it is not a git checkout."""
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(here), "rev-parse", "HEAD"],  # noqa: S607 - the user's own git
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
