"""The engines and adapters of this process: loaded on first use, checked by hash, released when they are not needed.

One engine per model path, shared by all its versions. What is in use is never released; of the rest, the ones used
longest ago go when memory is short, and an engine that rests for `idle_s` goes anyway.
"""

import asyncio
import tempfile
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bessemer.core.models import Model
from bessemer.engine.request import Regex
from bessemer.gateway.providers.adapters import unpack_adapter
from bessemer.registry.weights import WeightsSettings, check_model
from bessemer.store.blobs import BlobStore

if TYPE_CHECKING:
    from bessemer.engine.engine import Engine


@dataclass
class _Held:
    task: "asyncio.Task[Engine]"
    adapters: "OrderedDict[str, asyncio.Task[int]]" = field(default_factory=OrderedDict)
    """Adapters in memory with their bytes; the one used last stands last."""
    adapter_users: "Counter[str]" = field(default_factory=Counter)
    users: int = 0
    uses: int = 0

    @property
    def broken(self) -> bool:
        """The engine did not load."""
        return self.task.done() and (self.task.cancelled() or self.task.exception() is not None)


class Engines:
    """Hands out running engines. `memory` bounds what idle ones may keep, `adapter_memory` each engine's adapters."""

    def __init__(
        self,
        blobs: BlobStore,
        scratch: Path,
        open_engine: "Callable[[Path], Engine]",
        *,
        memory: int,
        adapter_memory: int,
        idle_s: float | None,
    ) -> None:
        """Bytes and seconds; `idle_s` None: engines rest until memory is short. `scratch`: where adapters unpack."""
        self._blobs = blobs
        self._scratch = scratch
        self._open_engine = open_engine
        self._memory = memory
        self._adapter_memory = adapter_memory
        self._idle_s = idle_s
        self._held: OrderedDict[Path, _Held] = OrderedDict()
        """By path; the one used last stands last."""
        self._ending: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def use(self, model: Model, adapter: str | None = None) -> "AsyncIterator[Engine]":
        """Give a model's engine, with an adapter in memory when its SHA-256 is named, for as long as the block runs.

        Raises ConfigError, EngineError, NotFound, ProviderError, StoreError.
        """
        path = _path(model)
        held = self._held.get(path)
        if held is None or held.broken:
            held = _Held(asyncio.create_task(asyncio.to_thread(self._start, model, path)))
            self._held[path] = held
        self._held.move_to_end(path)
        held.users += 1
        held.uses += 1
        try:
            # Shielded: one impatient client must not cancel the loading that others wait for.
            engine = await asyncio.shield(held.task)
            self._make_room()
            if adapter is None:
                yield engine
            else:
                async with self._adapter(held, engine, adapter):
                    yield engine
        finally:
            held.users -= 1
            if self._idle_s is not None and not held.users:
                asyncio.get_running_loop().call_later(self._idle_s, self._rested, path, held, held.uses)

    async def close(self) -> None:
        """Stop all engines."""
        for path in list(self._held):
            self._release(path)
        await asyncio.gather(*self._ending)

    def _start(self, model: Model, path: Path) -> "Engine":
        check_model(model)
        engine = self._open_engine(path)
        # Made here, in a thread, and not by the first request: they read the whole vocabulary.
        assert engine.tokenizer.longest_piece
        engine.make_ready(Regex(pattern="a"))
        engine.start()
        return engine

    @asynccontextmanager
    async def _adapter(self, held: _Held, engine: "Engine", sha256: str) -> AsyncIterator[None]:
        task = held.adapters.get(sha256)
        if task is None or (task.done() and task.exception() is not None):
            task = asyncio.create_task(asyncio.to_thread(self._add_adapter, engine, sha256))
            held.adapters[sha256] = task
        held.adapters.move_to_end(sha256)
        held.adapter_users[sha256] += 1
        try:
            await asyncio.shield(task)
            self._make_room_for_adapters(held, engine)
            yield
        finally:
            held.adapter_users[sha256] -= 1

    def _make_room_for_adapters(self, held: _Held, engine: "Engine") -> None:
        loaded = {name: task for name, task in held.adapters.items() if task.done() and task.exception() is None}
        size = sum(task.result() for task in loaded.values())
        for name, task in loaded.items():
            if size > self._adapter_memory and not held.adapter_users[name]:
                size -= task.result()
                del held.adapters[name], held.adapter_users[name]
                engine.remove_adapter(name)

    def _add_adapter(self, engine: "Engine", sha256: str) -> int:
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpack-", dir=self._scratch) as folder:
            unpack_adapter(self._blobs, sha256, Path(folder))
            engine.add_adapter(sha256, Path(folder))
        return engine.adapter_bytes(sha256)

    def _make_room(self) -> None:
        """Release idle engines, the ones used longest ago first, until the rest fits."""
        ready = {path: held for path, held in self._held.items() if held.task.done() and not held.broken}
        size = sum(held.task.result().memory_bytes for held in ready.values())
        for path, held in ready.items():
            if size > self._memory and not held.users:
                size -= held.task.result().memory_bytes
                self._release(path)

    def _rested(self, path: Path, held: _Held, uses: int) -> None:
        if self._held.get(path) is held and not held.users and held.uses == uses:
            self._release(path)

    def _release(self, path: Path) -> None:
        ending = asyncio.create_task(_end(self._held.pop(path).task))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


async def _end(task: "asyncio.Task[Engine]") -> None:
    # One that never loaded has nothing to stop; the requests that asked for it had the error.
    engine = (await asyncio.gather(task, return_exceptions=True))[0]
    if not isinstance(engine, BaseException):
        await asyncio.to_thread(engine.close)


def _path(model: Model) -> Path:
    return Path(model.settings_as(WeightsSettings).path)
