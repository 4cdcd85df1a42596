"""One request on its way through the engine: its tokens, its memory and what has been answered so far."""

import time
from collections.abc import Callable

import numpy as np

from bessemer.core.errors import BessemerError
from bessemer.engine.attention import Ints
from bessemer.engine.choices import LabelTree
from bessemer.engine.constraint import Grammar
from bessemer.engine.lora import Adapter
from bessemer.engine.request import FinishReason, GenerateRequest, Generation, TokenEvent, TopLogprob
from bessemer.engine.sampling import Drawn, SamplingRow
from bessemer.engine.text import TextStream

_SEEDS = 1 << 64
"""The generator takes no negative seed, OpenAI's clients may send one."""
Event = TokenEvent | BessemerError
Deliver = Callable[[Event], None]
"""Takes the events of a request in the engine's thread; it must not block."""


class Ticket:
    """What a caller holds of a request: a place to say that the answer is no longer wanted."""

    def __init__(self, request: GenerateRequest, deliver: Deliver) -> None:
        self.request = request
        self.deliver = deliver
        self.cancelled = False
        self.submitted = time.perf_counter()


class Sequence:
    """Mutable state of one request; the engine's thread alone touches it."""

    def __init__(
        self,
        ticket: Ticket,
        *,
        max_tokens: int,
        version: str,
        adapter: Adapter | None,
        names: tuple[bytes, ...],
        grammar: Grammar | None,
        tree: LabelTree | None,
    ) -> None:
        request = ticket.request
        self._ticket = ticket
        self.request = request
        self.max_tokens = max_tokens
        self.version = version
        self.adapter = adapter
        self.names = names
        """Hashes of the prompt's full blocks."""
        self.grammar = grammar
        self.tree = tree
        self.deliver = ticket.deliver
        self.ended = False
        """Its place and memory have been given back."""
        self.tokens = list(request.prompt)
        """Prompt and everything sampled or forced so far."""
        self.computed = 0
        """Tokens whose keys and values are stored."""
        self.scored = len(request.prompt)
        """Tokens that are answered for: the prompt, and those after it with a log-probability."""
        self.cached = 0
        self.blocks: list[int] = []
        self.table: Ints = np.zeros(0, np.int32)
        self.first_token: float | None = None
        self.engine_seconds = 0.0
        self.text = TextStream(request.stop)
        self.logprobs: list[float] = []
        self.forced: list[bool] = []
        self.tops: list[tuple[TopLogprob, ...]] = []
        seed = None if request.seed is None else request.seed % _SEEDS
        self._random = np.random.Generator(np.random.PCG64(seed))

    @property
    def cancelled(self) -> bool:
        """Whether the caller no longer wants the answer."""
        return self._ticket.cancelled

    @property
    def needed(self) -> int:
        """Tokens of room for the whole answer."""
        return len(self.request.prompt) + (len(self.tree.tokens) if self.tree else self.max_tokens)

    @property
    def pending(self) -> int:
        """Tokens whose keys and values are still to be computed."""
        return len(self.tokens) - self.computed

    def uniform(self) -> float:
        """Return the next number in [0, 1) of this request's own random stream."""
        return float(self._random.random())

    def row(self) -> SamplingRow:
        """Return how the next token is sampled."""
        request = self.request
        return SamplingRow(
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            uniform=self.uniform() if request.temperature > 0 else 0.0,
            top_logprobs=request.top_logprobs,
            bias=request.logit_bias,
        )

    def place(self, blocks: list[int], shared: int) -> None:
        """Take memory; the first `shared` tokens are already computed."""
        self.blocks = blocks
        self.table = np.array(blocks, np.int32)
        self.computed = self.cached = shared

    def accept(self, drawn: Drawn, data: bytes, *, forced: bool, ended: bool, last: bool) -> FinishReason | None:
        """Record a token's log-probability and text and deliver its event; return why nothing follows, if so.

        ended: it is the model's own end. last: the grammar allows nothing more.
        """
        if self.first_token is None:
            self.first_token = time.perf_counter()
        self.scored += 1
        self.logprobs.append(drawn.logprob)
        self.forced.append(forced)
        if self.request.top_logprobs:
            self.tops.append(drawn.top)
        text = "" if ended else self.text.push(data)
        full = len(self.logprobs) >= self.max_tokens
        finish: FinishReason | None = "stop" if ended or last or self.text.stopped else "length" if full else None
        if finish is None:
            self.deliver(TokenEvent(text=text, token=drawn.token, logprob=drawn.logprob, top_logprobs=drawn.top))
        else:
            self._finish(drawn, text, finish)
        return finish

    def _finish(self, drawn: Drawn, text: str, finish: FinishReason) -> None:
        text += self.text.finish()
        generation = self._generation(finish, self.text.text)
        event = TokenEvent(
            text=text,
            token=drawn.token,
            logprob=drawn.logprob,
            top_logprobs=drawn.top,
            finish_reason=finish,
            generation=generation,
        )
        self.deliver(event)

    def answer_choice(self, label: str, path: tuple[int, ...], logprobs: list[float], scores: dict[str, float]) -> None:
        """End with a label: its tokens, their log-probabilities, and the scores of all labels."""
        self.first_token = time.perf_counter()
        self.tokens += path
        self.logprobs = logprobs
        self.forced = [False] * len(path)
        generation = self._generation("stop", label, scores)
        self.deliver(TokenEvent(text=label, finish_reason="stop", generation=generation))

    def _generation(
        self, finish: FinishReason, text: str, choice_logprobs: dict[str, float] | None = None
    ) -> Generation:
        now = time.perf_counter()
        prompt = len(self.request.prompt)
        answered = self.tokens[prompt : prompt + len(self.logprobs)]
        return Generation(
            text=text,
            tokens=tuple(answered),
            logprobs=tuple(self.logprobs),
            forced=tuple(self.forced),
            top_logprobs=tuple(self.tops),
            finish_reason=finish,
            prompt_tokens=prompt,
            cached_tokens=self.cached,
            completion_tokens=len(answered),
            ttft_s=(self.first_token or now) - self._ticket.submitted,
            duration_s=now - self._ticket.submitted,
            engine_seconds=self.engine_seconds,
            version=self.version,
            choice_logprobs=choice_logprobs,
        )
