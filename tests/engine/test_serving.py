"""The engine's thread: streams, cancellation, a full queue, closing; the event loop is never held up."""

import asyncio
import contextlib
import gc
import time
import weakref
from collections.abc import Iterator

import pytest
from tests.engine.tiny_model import prompt_of, tiny_adapter, tiny_engine

from bessemer.core.errors import EngineError, InvalidRequest, RateLimited
from bessemer.engine.engine import Engine
from bessemer.engine.request import Choices, GenerateRequest, Regex

LONG = GenerateRequest(prompt=prompt_of("A long answer, please."), max_tokens=400, seed=1, logit_bias={256: -100.0})


@contextlib.contextmanager
def running(**settings: int) -> Iterator[Engine]:
    engine = tiny_engine(None, **settings)
    engine.start()
    try:
        yield engine
    finally:
        engine.close()


async def idle(engine: Engine) -> None:
    for _ in range(500):
        stats = engine.stats()
        if stats.running == stats.waiting == 0:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the engine is still busy")


async def test_a_stream_is_the_answer_in_pieces() -> None:
    request = GenerateRequest(
        prompt=prompt_of("Hello"), max_tokens=40, seed=5, temperature=0.8, stop=("zz",), top_logprobs=3
    )
    with running() as engine:
        events = [event async for event in engine.stream(request)]
        whole = await engine.generate(request)
    last = events[-1].generation
    assert last is not None
    assert all(event.generation is None and event.finish_reason is None for event in events[:-1])
    assert "".join(event.text for event in events) == whole.text == last.text
    assert tuple(event.token for event in events) == whole.tokens
    assert tuple(event.logprob for event in events) == whole.logprobs
    assert tuple(event.top_logprobs for event in events) == whole.top_logprobs
    assert all(top[0].logprob >= top[1].logprob >= top[2].logprob for top in whole.top_logprobs)
    assert 0 < last.ttft_s <= last.duration_s


async def test_many_clients_at_once_get_their_own_answers() -> None:
    requests = [GenerateRequest(prompt=prompt_of(f"Client {i} asks"), max_tokens=20, seed=i) for i in range(24)]
    choices = [
        GenerateRequest(prompt=r.prompt, constraint=Choices(labels=("a", "bc")), temperature=0) for r in requests
    ]
    with running() as engine:
        together = await asyncio.gather(*(engine.generate(request) for request in [*requests, *choices]))
        blocking = await asyncio.to_thread(engine.generate_many, requests)
    assert [g.tokens for g in together[:24]] == [g.tokens for g in blocking]
    assert [g.tokens for g in blocking] == [g.tokens for g in tiny_engine().generate_many(requests)]


async def test_cancelling_frees_the_place() -> None:
    with running() as engine:
        task = asyncio.create_task(engine.generate(LONG))
        events = engine.stream(LONG)
        await anext(events)
        assert engine.stats().running >= 1
        task.cancel()
        await events.aclose()  # type: ignore[attr-defined]
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await idle(engine)
        assert engine.stats().tokens_sampled < 2 * 400


async def test_the_event_loop_is_not_held_up() -> None:
    with running() as engine:
        task = asyncio.create_task(engine.generate(LONG))
        longest = 0.0
        while not task.done():
            before = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - before)
            await asyncio.sleep(0.001)
        assert (await task).completion_tokens == 400
    assert longest < 1.0  # a step takes longer than this on no machine; the loop only ever waits for the interpreter


async def test_a_full_queue_refuses_and_recovers() -> None:
    with running(max_running=1, max_waiting=2) as engine:
        tasks = [asyncio.create_task(engine.generate(LONG)) for _ in range(12)]
        done, waiting = await asyncio.wait(tasks, timeout=0.1)
        refused = [task for task in done if isinstance(task.exception(), RateLimited)]
        assert refused
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await idle(engine)
        assert (await engine.generate(GenerateRequest(prompt=(1,), max_tokens=1))).completion_tokens == 1


async def test_bad_requests_fail_alone() -> None:
    with running() as engine:
        good, bad = await asyncio.gather(
            engine.generate(GenerateRequest(prompt=(1, 2), max_tokens=5)),
            engine.generate(GenerateRequest(prompt=())),
            return_exceptions=True,
        )
        assert isinstance(bad, InvalidRequest)
        assert not isinstance(good, BaseException)
        with pytest.raises(InvalidRequest):
            await anext(engine.stream(GenerateRequest(prompt=(1,), top_p=2.0)))


async def test_what_a_library_throws_at_one_request_leaves_the_engine_running(monkeypatch: pytest.MonkeyPatch) -> None:
    with running() as engine:
        with monkeypatch.context() as patch:

            def break_down(*arguments: object) -> None:
                raise ValueError("too deep")

            patch.setattr(engine.grammars, "start", break_down)
            with pytest.raises(EngineError, match="ValueError at "):
                await engine.generate(GenerateRequest(prompt=(1,), constraint=Regex(pattern="a")))
        assert (await engine.generate(GenerateRequest(prompt=(1,), max_tokens=3, seed=1))).completion_tokens


async def test_an_engine_that_died_says_so_and_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with running() as engine:
        with monkeypatch.context() as patch:

            def break_down() -> None:
                raise MemoryError("no memory left")

            patch.setattr(engine, "_turn", break_down)
            with pytest.raises(EngineError, match="MemoryError at "):
                await engine.generate(LONG)
        with pytest.raises(EngineError, match="not running"):
            await engine.generate(LONG)
        engine.close()
        engine.start()
        assert (await engine.generate(GenerateRequest(prompt=(1,), max_tokens=3, seed=1))).completion_tokens


def test_an_adapter_that_was_removed_is_not_kept() -> None:
    engine = tiny_engine()
    adapter = tiny_adapter(engine.network, 1)
    engine.add_adapter("a", adapter)
    kept = weakref.ref(adapter)
    engine.remove_adapter("a")
    del adapter
    gc.collect()
    assert kept() is None


async def test_closing_ends_what_is_under_way() -> None:
    engine = tiny_engine()
    engine.start()
    events = engine.stream(LONG)
    await anext(events)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        async for _ in events:
            pass
    with pytest.raises(EngineError, match="not running"):
        await engine.generate(LONG)


async def test_a_failed_step_reaches_its_callers_and_the_engine_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with running() as engine:
        forward = engine.network.forward_hidden
        with monkeypatch.context() as patch:

            def break_down(*arguments: object) -> None:
                raise MemoryError("no memory left")

            patch.setattr(engine.network, "forward_hidden", break_down)
            with pytest.raises(EngineError, match="MemoryError at "):
                await engine.generate(LONG)
        assert engine.network.forward_hidden == forward
        assert (await engine.generate(GenerateRequest(prompt=(1,), max_tokens=3, seed=1))).completion_tokens
