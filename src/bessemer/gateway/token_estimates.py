"""Tokens of answers whose upstream does not say how many: those that broke off, were left, or came without usage.

A model's own finished answers say how many characters one of its tokens has; before the first, four (what OpenAI's help
pages give for English). What comes of it is marked as estimated wherever it is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bessemer.core.conversation import Message, Tool

CHARACTERS: Final = 4.0
"""Of a token, where nothing is known of the model."""
_FRESH: Final = 0.1
_LEAST: Final = 16
"""Tokens below which an answer says little of their length."""


@dataclass(slots=True)
class _Length:
    """Characters of a token: a moving mean."""

    mean: float = CHARACTERS
    seen: bool = False

    def learn(self, characters: int, tokens: int | None) -> None:
        if tokens is None or tokens < _LEAST or not characters:
            return
        length = characters / tokens
        self.mean = (1 - _FRESH) * self.mean + _FRESH * length if self.seen else length
        self.seen = True

    def tokens(self, characters: int) -> int:
        return max(1, round(characters / self.mean)) if characters else 0


class TokenEstimates:
    """What is known of the tokens of the models of one process."""

    def __init__(self) -> None:
        self._asked: dict[str, _Length] = {}
        self._answered: dict[str, _Length] = {}

    def knows(self, model: str) -> bool:
        """Say whether anything was learned of a model's answers."""
        return (length := self._answered.get(model)) is not None and length.seen

    def learn_input(self, model: str, characters: int, tokens: int | None) -> None:
        """Learn from a request whose tokens are known."""
        self._asked.setdefault(model, _Length()).learn(characters, tokens)

    def learn_output(self, model: str, characters: int, tokens: int | None) -> None:
        """Learn from an answer whose tokens are known."""
        self._answered.setdefault(model, _Length()).learn(characters, tokens)

    def input_tokens(self, model: str, characters: int) -> int:
        """Return about how many tokens a request of so many characters has."""
        return self._asked.setdefault(model, _Length()).tokens(characters)

    def output_tokens(self, model: str, characters: int, pieces: int) -> int:
        """Return about how many tokens an answer of so many characters, in so many events, has.

        Before the model is known, an event counts as a token at least: upstreams send one for each, or for several.
        """
        length = self._answered.setdefault(model, _Length())
        return length.tokens(characters) if length.seen else max(length.tokens(characters), pieces)


def characters_of(messages: Sequence[Message], tools: Sequence[Tool]) -> int:
    """Return the characters of a request that a model reads as text."""
    said = sum(len(message.text) for message in messages)
    called = sum(len(call.arguments) for message in messages for call in message.tool_calls)
    return said + called + sum(len(str(tool.plain())) for tool in tools)
