"""Engines and adapters of the process: shared, checked by hash, released when nobody needs them."""

import asyncio
import gc
import shutil
import weakref
from pathlib import Path

import pytest
from tests.gateway.tiny import adapter_tar, open_tiny, tiny_model

from bessemer.core.errors import EngineError
from bessemer.core.models import Model
from bessemer.engine.engine import Engine
from bessemer.engine.request import GenerateRequest
from bessemer.gateway.providers.engines import Engines
from bessemer.gateway.providers.local import LocalSettings
from bessemer.registry.weights import content_sha256
from bessemer.store.blob_folder import BlobFolder

REQUEST = GenerateRequest(prompt=(1, 2, 3), max_tokens=2, temperature=0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three models."""
    first = tiny_model(tmp_path_factory.mktemp("models") / "0")
    return [first, *(shutil.copytree(first, first.with_name(str(number))) for number in (1, 2))]


class Opened:
    """Opens tiny engines and remembers them as long as somebody else does."""

    def __init__(self) -> None:
        self.engines: list[weakref.ref[Engine]] = []

    def __call__(self, path: Path) -> Engine:
        engine = open_tiny(path)
        self.engines.append(weakref.ref(engine))
        return engine

    def alive(self) -> list[bool]:
        gc.collect()
        return [engine() is not None for engine in self.engines]


def model(path: Path, sha256: str | None = None) -> Model:
    return Model(name=f"tiny-{path.name}", provider="local", settings=LocalSettings(path=str(path), sha256=sha256))


def engines(
    folder: Path,
    opened: Opened,
    *,
    memory: int = 1 << 40,
    adapter_memory: int = 1 << 40,
    idle_s: float | None = None,
) -> Engines:
    blobs = BlobFolder(folder / "blobs")
    return Engines(blobs, folder, opened, memory=memory, adapter_memory=adapter_memory, idle_s=idle_s)


async def ended(opened: Opened, expected: list[bool]) -> None:
    for _ in range(200):
        if opened.alive() == expected:
            return
        await asyncio.sleep(0.05)
    assert opened.alive() == expected


async def test_engines_that_rested_are_dropped_and_come_back(tmp_path: Path, folders: list[Path]) -> None:
    opened = Opened()
    held = engines(tmp_path, opened, idle_s=0.2)
    async with held.use(model(folders[0])) as engine:
        await asyncio.sleep(0.5)
        answer = (await engine.generate(REQUEST)).tokens  # a long use is no rest
    del engine
    await ended(opened, [False])
    async with held.use(model(folders[0])) as engine:
        assert (await engine.generate(REQUEST)).tokens == answer
    await held.close()


async def test_the_engine_used_longest_ago_goes_when_memory_is_short(tmp_path: Path, folders: list[Path]) -> None:
    opened = Opened()
    size = open_tiny(folders[0]).memory_bytes
    assert size > 4096 * 2 * 2 * 2 * 8 * 2, "keys and values of 4,096 tokens, in 2 layers, 2 heads of 8"
    held = engines(tmp_path, opened, memory=int(2.5 * size))
    for folder in (folders[0], folders[1], folders[0], folders[2]):
        async with held.use(model(folder)):
            pass
    await ended(opened, [True, False, True])
    async with held.use(model(folders[0])), held.use(model(folders[1])), held.use(model(folders[2])) as engine:
        # The third was released for the second, and opened again; what is in use stays, however much it is.
        await ended(opened, [True, False, False, True, True])
        await engine.generate(REQUEST)
    del engine
    await held.close()
    await ended(opened, [False] * 5)


async def test_adapters_go_when_their_memory_is_short(tmp_path: Path, folders: list[Path]) -> None:
    opened = Opened()
    tiny = open_tiny(folders[0])
    blobs = BlobFolder(tmp_path / "blobs")
    names = [blobs.put(adapter_tar(tiny, tmp_path / f"adapter{seed}", seed)) for seed in (1, 2, 3)]
    tiny.add_adapter("one", tmp_path / "adapter1" / "adapter")
    held = engines(tmp_path, opened, adapter_memory=2 * tiny.adapter_bytes("one"))
    async with held.use(model(folders[0]), names[0]) as engine:
        for name in names[1:]:
            async with held.use(model(folders[0]), name):
                assert name in engine.adapters()
        assert set(engine.adapters()) == {names[0], names[2]}, "the one in use stays"
    async with held.use(model(folders[0]), names[1]):
        assert set(engine.adapters()) == {names[1], names[2]}
    await held.close()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer_config.json"])
async def test_weights_that_were_changed_are_refused_by_name(tmp_path: Path, folders: list[Path], name: str) -> None:
    folder = shutil.copytree(folders[0], tmp_path / "model")
    opened, sha256 = Opened(), content_sha256(folder)
    held = engines(tmp_path, opened)
    (folder / name).write_bytes((folder / name).read_bytes()[:-1] + b"x")
    with pytest.raises(EngineError, match=r"weights of 'tiny-model'.*\[models.tiny-model\] states " + sha256):
        async with held.use(model(folder, sha256)):
            pass
    assert opened.engines == []
    shutil.copy(folders[0] / name, folder / name)
    async with held.use(model(folder, sha256)) as engine:
        await engine.generate(REQUEST)
    await held.close()
