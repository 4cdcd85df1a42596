"""A provider that answers with what was said."""

from collections.abc import AsyncIterator
from typing import ClassVar

from bessemer.core.errors import InvalidRequest
from bessemer.core.models import Capability, ProviderSettings
from bessemer.core.reply import ReplyPiece, Usage
from bessemer.gateway.providers.base import Provider, ProviderCall, ProviderContext, ProviderKind


class EchoSettings(ProviderSettings, frozen=True):
    """What a model of the provider says in the configuration file."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.COMPLETE})
    dialects: ClassVar[frozenset[str]] = frozenset({"plain"})
    greeting: str
    shout: bool = False


class Echo:
    """Answers with what was said."""

    async def complete(self, call: ProviderCall) -> AsyncIterator[ReplyPiece]:
        settings = call.model.settings_as(EchoSettings)
        if call.sampling.logprobs or call.rules.constraint is not None:
            raise InvalidRequest(f"{call.model.name!r} only repeats; leave out what an answer must be.", param="model")
        words = [settings.greeting, *(message.text or "(a picture)" for message in call.messages)]
        words += [f"{name}={value}" for name, value in call.extra.items()]
        for word in words:
            yield ReplyPiece(text=(word.upper() if settings.shout else word) + " ")
        yield ReplyPiece(finish_reason="stop", usage=Usage(input_tokens=len(call.messages), output_tokens=len(words)))

    async def close(self) -> None:
        pass


def _open(_context: ProviderContext) -> Provider:
    return Echo()


ECHO = ProviderKind("echo", EchoSettings, _open)
