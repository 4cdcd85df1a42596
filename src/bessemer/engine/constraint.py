"""Grammar-constrained sampling with llguidance: which tokens may come next, and which must."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bessemer.core.errors import EngineError, InvalidRequest
from bessemer.engine.request import Choices, Constraint, JsonSchema, Lark, Regex

LISTED = 4096
"""Up to this many tokens, what a grammar leaves is a distribution of its own: log-probabilities are normalised over it
and no other logit is computed. Beyond, almost anything goes, and they are normalised over the whole vocabulary."""
_KEPT = 256
"""Compiled grammars kept for reuse."""


class Vocabulary(Protocol):
    """What the grammar library must know of a tokenizer."""

    vocab_size: int
    eos_ids: frozenset[int]
    terminator: int

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """Return what a token adds to the text; empty for control tokens."""
        ...


class Grammar:
    """State of one constrained answer."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    @property
    def complete(self) -> bool:
        """Nothing may follow."""
        return bool(self._matcher.is_stopped())

    def forced(self) -> list[int]:
        """Return tokens that must come next whatever the model says."""
        return [] if self.complete else [int(token) for token in self._matcher.compute_ff_tokens()]

    def consume(self, tokens: Sequence[int]) -> None:
        """Advance. Raises EngineError when a token was not allowed or a limit of the library was hit."""
        if not self._matcher.consume_tokens(list(tokens)):
            raise EngineError(f"the grammar stopped: {self._matcher.get_error()}", param="constraint")
        self.check()

    def check(self) -> None:
        """Raise EngineError when a limit of the library was hit: it then calls the answer complete wherever it is."""
        if self._matcher.is_error():
            raise EngineError(f"the grammar stopped: {self._matcher.get_error()}", param="constraint")

    def write_mask(self, target: Tensor) -> None:
        """Write the bits of the allowed tokens into int32 words [ceil(tokenizer's vocabulary / 32)]."""
        self._matcher.unsafe_compute_mask_ptr(target.data_ptr(), target.numel() * 4)


class Grammars:
    """Compiles constraints for one tokenizer; the compiled form is reused by equal constraints."""

    def __init__(self, vocabulary: Vocabulary, vocab_size: int) -> None:
        """`vocab_size` is the model's: embeddings may be padded beyond the tokenizer's, or end before its last ones."""
        self._vocabulary = vocabulary
        self._vocab_size = vocab_size
        self._tokenizer: Any = None
        self._compiled: OrderedDict[str, Any] = OrderedDict()

    def start(self, constraint: Constraint) -> Grammar:
        """Return a fresh grammar state. Raises InvalidRequest when the constraint is malformed."""
        from llguidance import LLMatcher

        try:
            source = _source(constraint)
        except (ValueError, RecursionError) as error:  # a schema nested deeper than the library reads
            raise InvalidRequest(f"constraint is not valid: {str(error).strip()[:500]}", param="constraint") from error
        matcher = self._compiled.get(source)
        if matcher is None:
            matcher = LLMatcher(self._ll_tokenizer(), source, log_level=0)
            if error_text := matcher.get_error():
                raise InvalidRequest(f"constraint is not valid: {error_text.strip()[:500]}", param="constraint")
            self._compiled[source] = matcher
            if len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
        else:
            self._compiled.move_to_end(source)
        return Grammar(matcher.deep_copy())

    def allowed(self, grammars: Sequence[Grammar | None]) -> list[Tensor | None] | None:
        """Return each row's allowed tokens, sorted int64 ids; None for a row without a grammar, or when none has one.

        Ids instead of a mask: most grammars leave few of a large vocabulary, and only those are then looked at.
        """
        constrained = [i for i, grammar in enumerate(grammars) if grammar is not None]
        if not constrained:
            return None
        words = torch.zeros(len(constrained), -(-self._vocabulary.vocab_size // 32), dtype=torch.int32)
        for word_row, i in zip(words, constrained, strict=True):
            grammar = grammars[i]
            assert grammar is not None
            grammar.write_mask(word_row)
        allowed: list[Tensor | None] = [None] * len(grammars)
        for i, ids in zip(constrained, _set_bits(words.numpy(), self._vocab_size), strict=True):
            allowed[i] = torch.from_numpy(ids)
        return allowed

    def candidates(
        self, constraint: Constraint, tokens: Sequence[int], forced: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        """Return what each token of an answer was drawn from: sorted ids, of a forced token itself; None: anything."""
        grammar = self.start(constraint)
        found: list[Tensor | None] = []
        for token, alone in zip(tokens, forced, strict=True):
            ids = torch.tensor([token]) if alone else (self.allowed([grammar]) or [None])[0]
            found.append(ids if ids is not None and len(ids) <= LISTED else None)
            if token not in self._vocabulary.eos_ids:
                grammar.consume([token])
        return tuple(found)

    def _ll_tokenizer(self) -> Any:
        if self._tokenizer is None:
            from llguidance import LLTokenizer, TokenizerWrapper

            self._tokenizer = LLTokenizer(TokenizerWrapper(_Described(self._vocabulary)))
        return self._tokenizer


def _set_bits(words_RW: NDArray[np.int32], limit: int) -> list[NDArray[np.int64]]:
    """Return per row the places below `limit` of its set bits, in rising order."""
    row_N, word_N = np.nonzero(words_RW)
    bits_N32 = np.unpackbits(words_RW[row_N, word_N].view(np.uint8).reshape(-1, 4), axis=1, bitorder="little")
    which_B, bit_B = np.nonzero(bits_N32)
    place_B = word_N[which_B] * 32 + bit_B
    inside_B = place_B < limit
    starts = np.searchsorted(row_N[which_B][inside_B], np.arange(1, len(words_RW)))
    return np.split(place_B[inside_B].astype(np.int64), starts)


class _Described:
    """The tokenizer in the form that llguidance's wrapper asks for."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.tokens = [vocabulary.token_bytes(token) for token in range(vocabulary.vocab_size)]
        self.special_token_ids = [token for token, text in enumerate(self.tokens) if not text]
        self.eos_token_id = vocabulary.terminator
        self.bos_token_id = None
        self._vocabulary = vocabulary

    def __call__(self, text: bytes | str) -> list[int]:
        return self._vocabulary.encode(text if isinstance(text, str) else text.decode("utf-8"))


def _source(constraint: Constraint) -> str:
    """Return the grammar in the library's own form."""
    from llguidance import LLMatcher

    match constraint:
        case JsonSchema(schema=schema):
            options = {"whitespace_flexible": False}
            return str(LLMatcher.grammar_from_json_schema(msgspec.json.encode(schema).decode(), overrides=options))
        case Regex(pattern=pattern):
            return str(LLMatcher.grammar_from_regex(pattern))
        case Lark(grammar=grammar):
            return str(LLMatcher.grammar_from_lark(grammar))
        case Choices():
            raise EngineError("choices are scored, not decoded under a grammar")
