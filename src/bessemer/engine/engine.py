"""The built-in engine: local inference on torch, many requests at once, in a thread of its own.

`Engine` owns a network, its adapters, the key-value memory and the scheduler. Callers on an event loop use `generate`
and `stream`; a trainer uses `generate_many`, which without `start` runs in the calling thread on the very weights that
are being trained. Everything but the inbox is touched by one thread at a time.
"""

import asyncio
import contextlib
import hashlib
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from bessemer.core.errors import BessemerError, EngineError, NotFound, RateLimited, told
from bessemer.engine.admission import Admission
from bessemer.engine.cache import BlockCache
from bessemer.engine.constraint import Grammars
from bessemer.engine.lora import Adapter
from bessemer.engine.network import Network
from bessemer.engine.request import Constraint, EngineStats, GenerateRequest, Generation, TokenEvent
from bessemer.engine.runner import ModelRunner
from bessemer.engine.scheduler import Scheduler
from bessemer.engine.sequence import Deliver, Event, Ticket
from bessemer.engine.states import states
from bessemer.engine.tokens import Tokens
from bessemer.engine.weights import load_weights

_log = logging.getLogger(__name__)


class LoadedModel(NamedTuple):
    """A network and its tokenizer in memory."""

    network: Network
    tokens: Tokens


def load_model(path: Path, dtype: torch.dtype | None = None) -> LoadedModel:
    """Load a GGUF file or a safetensors folder with its tokenizer."""
    return LoadedModel(Network(load_weights(path, dtype)), Tokens.load(path))


class Engine:
    """Local inference."""

    def __init__(
        self,
        model: Path | LoadedModel,
        *,
        threads: int | None = None,
        max_batch_tokens: int = 1024,
        max_running: int = 128,
        max_waiting: int = 4096,
        context_length: int | None = None,
        cache_tokens: int = 65_536,
    ) -> None:
        """Load the model, or wrap one that is in memory.

        threads: of torch in the engine's thread; None leaves torch's default. max_batch_tokens: computed in one step,
        so it bounds how long a running stream pauses for a new prompt. cache_tokens: room for keys and values, of
        running requests and of prefixes kept for reuse.
        """
        network, tokens = model if isinstance(model, LoadedModel) else load_model(model)
        network.pack()
        config = network.config
        self.network = network
        self.tokenizer = tokens
        self.context_length = min(context_length or config.context_length, config.context_length)
        self._threads = threads
        self._max_waiting = max_waiting
        self._cache = BlockCache(config, network.dtype, network.weights.embedding.device, cache_tokens)
        self._scheduler = Scheduler(self._cache, max_batch_tokens=max_batch_tokens, max_running=max_running)
        self.grammars = Grammars(tokens, config.vocab_size)
        self._runner = ModelRunner(network, tokens, self._cache, self._scheduler, self.grammars)
        self._admission = Admission(tokens, config.vocab_size, self.context_length, self.grammars)
        self._adapters: dict[str, Adapter] = {}
        self._fingerprints: dict[int, tuple[Adapter, int, str]] = {}
        self._base_version = _digest(network.fingerprint)
        self._requests = 0
        self._turns = threading.Lock()
        self._wake = threading.Condition()
        self._inbox: deque[Ticket] = deque()
        self._closing = False
        self._thread: threading.Thread | None = None

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the engine's thread, if it does not run yet."""
        if self._thread is None or not self._thread.is_alive():
            self._closing = False
            self._thread = threading.Thread(target=self._run, name="bessemer-engine", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop the thread; requests under way end with an EngineError."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    @property
    def memory_bytes(self) -> int:
        """Bytes of weights, keys and values, and adapters, once all of them are in use."""
        adapters = sum(map(self.adapter_bytes, self._adapters))
        return self.network.memory_bytes + self._cache.pool.nbytes + adapters

    # -- adapters -----------------------------------------------------------------------------------------------------

    def add_adapter(self, id: str, source: Path | Adapter) -> str:
        """Load a peft folder, or take a live adapter, under an id; return the version hash of base and adapter."""
        adapter = (
            source if isinstance(source, Adapter) else Adapter.load(source, self.network.config, self.network.dtype)
        )
        if id in self._adapters and self._adapters[id] is not adapter:
            self._forget_version(self._adapters[id])
        self._adapters = {**self._adapters, id: adapter}
        return self.version(id)

    def remove_adapter(self, id: str) -> None:
        """Forget an adapter; requests under way finish with it."""
        self._forget_version(self._find_adapter(id))
        self._adapters = {name: adapter for name, adapter in self._adapters.items() if name != id}

    def adapter_bytes(self, id: str) -> int:
        """Return the bytes of an adapter's parameters, with the copy that is computed with."""
        flat = self._find_adapter(id).flat
        return int(flat.nbytes + flat.numel() * self.network.dtype.itemsize)

    def adapters(self) -> tuple[str, ...]:
        """Return the ids of the loaded adapters."""
        return tuple(self._adapters)

    def version(self, adapter: str | None = None) -> str:
        """Return the hash of the weights that answer now: it changes with every update of a live adapter."""
        if adapter is None:
            return self._base_version
        found = self._find_adapter(adapter)
        known = self._fingerprints.get(id(found))
        if known is None or known[0] is not found or known[1] != found.version:
            known = (found, found.version, _digest(self._base_version + found.fingerprint()))
            self._fingerprints[id(found)] = known
        return known[2]

    def _forget_version(self, adapter: Adapter) -> None:
        self._fingerprints.pop(id(adapter), None)

    def _find_adapter(self, name: str) -> Adapter:
        if name not in self._adapters:
            raise NotFound(
                f"adapter {name!r} is not loaded: known are {', '.join(map(repr, self._adapters)) or 'none'}",
                param="adapter",
            )
        return self._adapters[name]

    # -- requests -----------------------------------------------------------------------------------------------------

    def is_ready(self, constraint: Constraint) -> bool:
        """Whether a request with this constraint begins at once."""
        return self._admission.is_ready(constraint)

    def make_ready(self, constraint: Constraint) -> None:
        """Check and compile a constraint in the calling thread, so that its request holds up nobody else's.

        Raises InvalidRequest.
        """
        self._admission.make_ready(constraint)

    async def generate(self, request: GenerateRequest) -> Generation:
        """Return the whole answer; cancelling frees its place.

        Raises InvalidRequest, NotFound (adapter), RateLimited (queue full), EngineError.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Generation] = loop.create_future()

        def settle(event: Event) -> None:
            if done.done():
                return
            if isinstance(event, BessemerError):
                done.set_exception(event)
            elif event.generation is not None:
                done.set_result(event.generation)

        def deliver(event: Event) -> None:
            if isinstance(event, BessemerError) or event.generation is not None:
                _call(loop, settle, event)

        ticket = self._submit(request, deliver)
        try:
            return await done
        finally:
            ticket.cancelled = True

    async def stream(self, request: GenerateRequest) -> AsyncIterator[TokenEvent]:
        """Yield tokens as they come; the last event holds the Generation. Closing the iterator frees its place."""
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event] = asyncio.Queue()
        ticket = self._submit(request, lambda event: _call(loop, events.put_nowait, event))
        try:
            while True:
                event = await events.get()
                if isinstance(event, BessemerError):
                    raise event
                yield event
                if event.generation is not None:
                    return
        finally:
            ticket.cancelled = True

    def generate_many(
        self, requests: Sequence[GenerateRequest], *, between: Callable[[], None] | None = None
    ) -> list[Generation]:
        """Answer all requests, in order; blocks. Without `start` it runs in the calling thread. Raises the first error.

        The limit of waiting requests does not apply. `between` is called before each turn in the calling thread; what
        it raises breaks all of them off.
        """
        outcomes: list[Generation | BessemerError | None] = [None] * len(requests)
        missing = threading.Semaphore(0)

        def deliver_to(i: int) -> Deliver:
            def deliver(event: Event) -> None:
                outcome = event if isinstance(event, BessemerError) else event.generation
                if outcome is not None:
                    outcomes[i] = outcome
                    missing.release()

            return deliver

        tickets = [Ticket(request, deliver_to(i)) for i, request in enumerate(requests)]
        if self._thread is None:
            self._run_here(tickets, between)
        else:
            self._post(tickets)
            for _ in tickets:
                missing.acquire()
        finished = []
        for outcome in outcomes:
            if isinstance(outcome, BessemerError):
                raise outcome
            assert outcome is not None
            finished.append(outcome)
        return finished

    def states(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the base model's states of texts, between two steps: see `states.states`. Blocks."""
        with self._turns:
            return states(self.network, self.tokenizer, texts)

    def stats(self) -> EngineStats:
        """Return counters and the present state."""
        return EngineStats(
            running=len(self._scheduler.running),
            waiting=len(self._scheduler.waiting) + len(self._inbox),
            requests=self._requests,
            tokens_sampled=self._runner.sampled,
            tokens_prefilled=self._runner.prefilled,
            tokens_cached=self._runner.reused,
            kernel="native" if self._runner.native else "torch",
        )

    # -- the engine's side --------------------------------------------------------------------------------------------

    def _submit(self, request: GenerateRequest, deliver: Deliver) -> Ticket:
        if self._thread is None or self._closing:
            raise EngineError("the engine is not running: call start() first")
        if len(self._scheduler.waiting) + len(self._inbox) >= self._max_waiting:
            raise RateLimited(f"{self._max_waiting} requests wait for the engine already: try again later")
        ticket = Ticket(request, deliver)
        self._post([ticket])
        return ticket

    def _post(self, tickets: list[Ticket]) -> None:
        with self._wake:
            if self._closing:  # nobody would empty the inbox any more
                raise EngineError("the engine is not running: call start() first")
            self._inbox.extend(tickets)
            self._wake.notify()

    def _run(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        reason = "the engine was closed"
        try:
            while not self._closing:
                with self._wake:
                    while not (self._closing or self._inbox or self._scheduler.running or self._scheduler.waiting):
                        self._wake.wait()
                    arrived = [self._inbox.popleft() for _ in range(len(self._inbox))]
                with self._turns:
                    self._open(arrived)
                    self._turn()
        except Exception as error:
            reason = f"the engine stopped: {told(error)}"
            _log.exception("the engine stopped")
        finally:
            with self._wake:
                self._closing = True
                left = [self._inbox.popleft() for _ in range(len(self._inbox))]
            with self._turns:
                self._fail_all(left, EngineError(reason))

    def _run_here(self, tickets: list[Ticket], between: Callable[[], None] | None) -> None:
        with self._turns:
            self._open(tickets)
            try:
                while self._scheduler.running or self._scheduler.waiting:
                    if between is not None:
                        between()
                    self._turn()
            except BaseException:
                self._fail_all([], EngineError("the caller broke off"))
                raise

    def _open(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            if ticket.cancelled:
                continue
            try:
                name = ticket.request.adapter
                adapter = None if name is None else self._find_adapter(name)
                self._scheduler.enqueue(self._admission.prepare(ticket, adapter, self.version(name)))
                self._requests += 1
            except BessemerError as error:
                ticket.deliver(error)
            except Exception as error:  # of a library, on what one request holds: the others go on
                ticket.deliver(EngineError(f"the request cannot be prepared: {told(error)}"))

    def _turn(self) -> None:
        try:
            works = self._scheduler.plan()
            if works:
                self._runner.step(works)
        except Exception as error:
            self._fail_all([], EngineError(f"a step of the engine failed: {told(error)}"))

    def _fail_all(self, tickets: list[Ticket], error: EngineError) -> None:
        self._cache.forget()
        for deliver in [waiting.deliver for waiting in self._scheduler.clear()] + [
            ticket.deliver for ticket in tickets
        ]:
            deliver(error)


def _call(loop: asyncio.AbstractEventLoop, take: Callable[[Event], object], event: Event) -> None:
    """Run `take(event)` on a loop from the engine's thread; a loop that is closed has nobody who waits."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(take, event)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
