"""A gateway on a real catalog, database and writer; upstreams are fake OpenAI servers on loopback."""

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from bessemer.core.access import Principal, Role
from bessemer.core.inferences import Inference
from bessemer.core.openai_chat import ChatCompletion, ChatRequest
from bessemer.core.routes import Route
from bessemer.core.types import as_json
from bessemer.dialects.openai_chat import asked
from bessemer.gateway import Gateway
from bessemer.gateway.providers import SETTINGS
from bessemer.gateway.providers.openai import OpenAIProvider
from bessemer.gateway.providers.recorded import RecordedProvider
from bessemer.gateway.stages import with_recorder
from bessemer.http.dialects import ReplyEvents
from bessemer.identity.policy import RolePolicy
from bessemer.registry.catalog import Catalog
from bessemer.registry.config import load_config
from bessemer.registry.upstreams import Timeouts
from bessemer.store import inferences
from bessemer.store.database import Database
from bessemer.store.spool import Spool
from bessemer.store.writer import Writer
from lab.fake_openai import FakeOpenAI, Script

PRINCIPAL = Principal(key_id="key-test", name="test", role=Role.MEMBER)
PRICES = """
[prices.tokens]
source = "test"
date = "2026-01"
input_per_million = 1.0
output_per_million = 2.0
cached_input_per_million = 0.1
[prices.hours]
source = "test"
date = "2026-01"
per_hour = 3600.0
[prompts.ask]
user = "Is {{input.left}} the same as {{input.right}}?"
"""


class ChatResult(NamedTuple):
    """A finished answer as a chat client gets it, and its record."""

    completion: ChatCompletion
    inference: Inference
    overhead_s: float


class StreamResult(NamedTuple):
    """A streamed answer as a chat client gets it."""

    inference_id: str
    events: ReplyEvents


class ChatGateway:
    """The gateway behind the chat dialect."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.infer = gateway.infer
        self.asker = gateway.asker
        self.close = gateway.close

    async def chat(self, request: ChatRequest, principal: Principal) -> ChatResult:
        checked = asked(request)
        answered = await self._gateway.answer(checked.conversations[0], principal)
        return ChatResult(checked.whole([answered.reply]), answered.inference, answered.overhead_s)

    async def stream(self, request: ChatRequest, principal: Principal) -> StreamResult:
        checked = asked(request)
        stream = await self._gateway.stream(checked.conversations[0], principal)
        return StreamResult(stream.head.inference_id, ReplyEvents([stream], checked.events()))


@dataclass
class World:
    """Everything a gateway test touches."""

    gateway: ChatGateway
    catalog: Catalog
    database: Database
    writer: Writer
    fakes: dict[str, FakeOpenAI] = field(default_factory=dict)

    def put_route(self, route: Route) -> None:
        self.catalog.put_route(route)

    def version(self, model: str) -> str:
        return self.catalog.resolve(model).version.id

    def recorded(self) -> list[Inference]:
        assert self.writer.flush()
        return inferences.find(self.database, limit=None, ascending=True)


async def read(result: StreamResult) -> list[bytes]:
    """Return the events of a streamed answer."""
    whole = b"".join([some async for some in result.events])
    return [event + b"\n\n" for event in whole.split(b"\n\n") if event]


def ask(model: str, text: str = "hello", **options: object) -> ChatRequest:
    """Return a chat request of one user message."""
    return ChatRequest(model=model, messages=[{"role": "user", "content": text}], **options)  # type: ignore[arg-type]


@pytest.fixture
async def make_world(tmp_path: Path, sqlite_database: Database):
    """Return a function that makes a world: `models` maps an OpenAI model's name to the scripts of its server."""
    async with AsyncExitStack() as stack:

        async def make(
            models: dict[str, list[Script]] | None = None,
            *,
            toml: str = "",
            timeouts: Timeouts | None = None,
            environ: dict[str, str] | None = None,
        ) -> World:
            fakes: dict[str, FakeOpenAI] = {}
            text = PRICES + toml
            for name, scripts in (models or {}).items():
                fakes[name] = await stack.enter_async_context(FakeOpenAI(scripts))
                text += f'[models.{name}]\nprovider = "openai"\nprice = "tokens"\nprompt = "ask"\n'
                text += f'base_url = "{fakes[name].base_url}"\n'
                if timeouts is not None:
                    given = ", ".join(f"{key} = {value}" for key, value in as_json(timeouts).items())
                    text += f"timeouts = {{ {given} }}\n"
            path = tmp_path / "bessemer.toml"
            path.write_text(text)
            catalog = Catalog(load_config(path, tmp_path, SETTINGS), sqlite_database)
            writer = Writer(sqlite_database, Spool.open(sqlite_database, tmp_path / "spool"))
            stack.callback(writer.close)
            providers = {
                "openai": OpenAIProvider(environ or {}),
                "recorded": RecordedProvider(),
            }
            gateway = Gateway(catalog, providers, with_recorder(writer), RolePolicy())
            stack.push_async_callback(gateway.close)
            return World(ChatGateway(gateway), catalog, sqlite_database, writer, fakes)

        yield make
