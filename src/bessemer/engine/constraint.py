"""Grammar-constrained sampling with llguidance: which tokens may come next, and which must.

A client writes the grammar, so what it may cost is bounded: its length, and the library's work to compile it and to
take one step in it. Compiling does not hold the interpreter and may be done outside the engine's thread.
"""

import threading
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bessemer.core.conversation import MAX_SOURCE_BYTES
from bessemer.core.errors import BessemerError, EngineError, InvalidRequest
from bessemer.engine.recent import Recent
from bessemer.engine.request import Choices, Constraint, JsonSchema, Lark, Regex

LISTED = 4096
"""Up to this many tokens, what a grammar leaves is a distribution of its own: log-probabilities are normalised over it
and no other logit is computed. Beyond, almost anything goes, and they are normalised over the whole vocabulary."""
_COMPILE_FUEL, _STEP_ITEMS = 50_000, 10_000
"""Of the library's own units, a twentieth and a fifth of its defaults: some 50 ms for the worst that is known,
(a{1000}){1000}, and enough for a thousand names or the spans of a page of text."""
_FORCED_CHARACTERS = 4096
"""What a grammar forces is spelled in tokens piece by piece: (a{1000}){1000} forces a million characters at once."""
_KEPT = 256
"""Compiled grammars kept for reuse."""


class TokenVocabulary(Protocol):
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
        """Advance. Raises InvalidRequest when the grammar leads nowhere or hit a limit of the library, EngineError when
        a token was not allowed."""
        self._matcher.consume_tokens(list(tokens))
        self.check()

    def check(self) -> None:
        """Raise as `consume` for a grammar in error: the library then calls the answer complete wherever it is."""
        if self._matcher.is_error():
            raise _stopped(self._matcher.get_error())

    def write_mask(self, target: Tensor) -> None:
        """Write the bits of the allowed tokens into int32 words [ceil(tokenizer's vocabulary / 32)]."""
        self._matcher.unsafe_compute_mask_ptr(target.data_ptr(), target.numel() * 4)


class Grammars:
    """Compiles constraints for one tokenizer; the compiled form is reused by equal constraints."""

    def __init__(self, vocabulary: TokenVocabulary, vocab_size: int) -> None:
        """`vocab_size` is the model's: embeddings may be padded beyond the tokenizer's, or end before its last ones."""
        self._vocabulary = vocabulary
        self._vocab_size = vocab_size
        self._tokenizer: Any = None
        self._opening = threading.Lock()
        self._compiled: Recent[str, Any] = Recent(_KEPT)

    def is_ready(self, constraint: Constraint) -> bool:
        """Whether the compiled form is there."""
        return _source(constraint) in self._compiled

    def compile(self, constraint: Constraint) -> Any:
        """Return the compiled form of a constraint; any thread, and the interpreter is free meanwhile.

        Raises InvalidRequest when it is malformed, too large, or when nothing satisfies it.
        """
        source = _source(constraint)
        return self._compiled.get(source, lambda: self._compile(source))

    def start(self, constraint: Constraint) -> Grammar:
        """Return a fresh grammar state. Raises InvalidRequest as `compile` does."""
        return Grammar(self.compile(constraint).deep_copy())

    def _compile(self, source: str) -> Any:
        from llguidance import LLMatcher, LLParserLimits

        limits = LLParserLimits(initial_lexer_fuel=_COMPILE_FUEL, step_max_items=_STEP_ITEMS, verbose_errors=False)
        matcher = LLMatcher(self._ll_tokenizer(), source, log_level=0, limits=limits)
        if error := matcher.get_error():
            raise _refusal(error)
        # Its first step, which every answer takes: what nothing satisfies is compiled without complaint.
        trial = Grammar(matcher)
        trial.consume(trial.forced())
        if not trial.complete:
            trial.write_mask(torch.zeros(-(-self._vocabulary.vocab_size // 32), dtype=torch.int32))
            trial.check()
        matcher.reset()
        return matcher

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
        from llguidance import LLTokenizer, TokenizerWrapper

        with self._opening:
            if self._tokenizer is None:
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

    def __init__(self, vocabulary: TokenVocabulary) -> None:
        self.tokens = [vocabulary.token_bytes(token) for token in range(vocabulary.vocab_size)]
        self.special_token_ids = [token for token, text in enumerate(self.tokens) if not text]
        self.eos_token_id = vocabulary.terminator
        self.bos_token_id = None
        self._vocabulary = vocabulary

    def __call__(self, text: bytes | str) -> list[int]:
        spelled = text if isinstance(text, str) else text.decode("utf-8")
        return self._vocabulary.encode(spelled[:_FORCED_CHARACTERS])


def _source(constraint: Constraint) -> str:
    """Return the grammar in the library's own form. Raises InvalidRequest when it is too large or malformed."""
    from llguidance import LLMatcher

    try:
        match constraint:
            case JsonSchema(schema=schema):
                options = {"whitespace_flexible": False}
                written = _bounded(msgspec.json.encode(schema).decode())
                return str(LLMatcher.grammar_from_json_schema(written, overrides=options))
            case Regex(pattern=pattern):
                return str(LLMatcher.grammar_from_regex(_bounded(pattern)))
            case Lark(grammar=grammar):
                return str(LLMatcher.grammar_from_lark(_bounded(grammar)))
            case Choices():
                raise EngineError("choices are scored, not decoded under a grammar")
    except (ValueError, RecursionError) as error:  # a schema nested deeper than the library reads
        raise _refusal(str(error)) from error


def _bounded(source: str) -> str:
    size = len(source.encode("utf-8", "surrogatepass"))
    if size > MAX_SOURCE_BYTES:
        raise InvalidRequest(
            f"constraint is not valid: it has {size} bytes; write it in at most {MAX_SOURCE_BYTES}", param="constraint"
        )
    return source


_WORK = ("too many", "too big", "too large", "toocomplex", "fuel")


def _refusal(reason: str) -> InvalidRequest:
    """Say in one sentence what the library means; its own text goes on with its state."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()] or ["unknown reason"]
    # An expression's error is a drawing of the place, then the reason.
    told = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[0])
    if told.startswith("NoExtension"):
        told = "no text satisfies it"
    elif any(word in reason.lower() for word in _WORK):
        told = "it takes too much work; make it smaller, with fewer repetitions"
    return InvalidRequest(f"constraint is not valid: {told[:300]}", param="constraint")


def _stopped(reason: str) -> BessemerError:
    if reason.startswith("NoExtension") or any(word in reason.lower() for word in _WORK):
        return _refusal(reason)
    return EngineError(f"the grammar stopped: {reason.partition(chr(10))[0][:300]}", param="constraint")
