"""A request is checked and made ready in the engine's thread: limits, label tree or grammar, prefix names.

Label trees and grammars are kept for reuse, so that whoever must not hold up the engine has them made before.
"""

import math
from collections.abc import Callable

from bessemer.core.conversation import MAX_STOPS
from bessemer.core.errors import InvalidRequest
from bessemer.engine.cache import block_hashes
from bessemer.engine.choices import LabelTree, build_tree, check_labels
from bessemer.engine.constraint import Grammars
from bessemer.engine.lora import Adapter
from bessemer.engine.recent import Recent
from bessemer.engine.request import MAX_BIASED_TOKENS, Choices, Constraint, GenerateRequest
from bessemer.engine.runner import extend_forced
from bessemer.engine.sequence import Sequence, Ticket
from bessemer.engine.tokens import Tokens

MAX_TOP_LOGPROBS = 20
MAX_STOP_CHARACTERS = 256
"""Each token is searched for the beginnings of stop texts, in time quadratic in their length."""
_KEPT_TREES = 32


class Admission:
    """Turns tickets into sequences."""

    def __init__(self, tokens: Tokens, vocab_size: int, context_length: int, grammars: Grammars) -> None:
        self._tokens, self._vocab_size = tokens, vocab_size
        self._context_length, self._grammars = context_length, grammars
        self._trees: Recent[tuple[str, ...], LabelTree] = Recent(_KEPT_TREES)

    def is_ready(self, constraint: Constraint) -> bool:
        """Whether a request with this constraint is prepared at once."""
        if isinstance(constraint, Choices):
            return constraint.labels in self._trees
        return self._grammars.is_ready(constraint)

    def make_ready(self, constraint: Constraint) -> None:
        """Check a constraint and compile it for the requests that follow; any thread. Raises InvalidRequest."""
        if isinstance(constraint, Choices):
            self._tree_of(constraint.labels)
        else:
            self._grammars.compile(constraint)

    def prepare(self, ticket: Ticket, adapter: Adapter | None, version: str) -> Sequence:
        """Return a sequence that is ready to wait. Raises InvalidRequest that names the field."""
        request = ticket.request
        _check_sampling(request)
        self._check_tokens(request)
        tree = self._tree(request) if isinstance(request.constraint, Choices) else None
        grammar = None if request.constraint is None or tree is not None else self._grammars.start(request.constraint)
        sequence = Sequence(
            ticket,
            max_tokens=min(request.max_tokens, self._context_length - len(request.prompt)),
            version=version,
            adapter=adapter,
            names=block_hashes(version, request.prompt),
            grammar=grammar,
            tree=tree,
        )
        if grammar is not None:
            extend_forced(sequence)
        return sequence

    def _check_tokens(self, request: GenerateRequest) -> None:
        if not request.prompt:
            raise InvalidRequest("prompt is empty: give at least one token", param="prompt")
        if len(request.prompt) >= self._context_length:
            raise InvalidRequest(
                f"prompt has {len(request.prompt)} tokens, the model reads at most {self._context_length - 1} "
                "and needs room for an answer: shorten it",
                param="prompt",
                code="context_length_exceeded",
            )
        for name, tokens in (("prompt", request.prompt), ("logit_bias", tuple(request.logit_bias))):
            if tokens and not 0 <= min(tokens) <= max(tokens) < self._vocab_size:
                raise InvalidRequest(f"{name} has a token id outside 0..{self._vocab_size - 1}", param=name)

    def _tree(self, request: GenerateRequest) -> LabelTree:
        choices = request.constraint
        assert isinstance(choices, Choices)
        tree = self._tree_of(choices.labels)
        if choices.bias and len(choices.bias) != len(choices.labels):
            raise InvalidRequest("choices.bias needs one number per label", param="choices.bias")
        for name, idle in (
            ("stop", not request.stop),
            ("logit_bias", not request.logit_bias),
            ("top_k", request.top_k == 0),
            ("top_p", request.top_p == 1),
        ):
            if not idle:
                raise InvalidRequest(f"{name} has no meaning with choices: leave it out", param=name)
        if len(request.prompt) + len(tree.tokens) > self._context_length:
            raise InvalidRequest(
                f"prompt and labels have {len(request.prompt) + len(tree.tokens)} tokens, the model reads at most "
                f"{self._context_length}: shorten the prompt",
                param="prompt",
                code="context_length_exceeded",
            )
        return tree

    def _tree_of(self, labels: tuple[str, ...]) -> LabelTree:
        check_labels(labels)

        def make() -> LabelTree:
            tokens = [self._tokens.encode(label) for label in labels]
            if not all(tokens):  # a tokenizer may drop characters
                raise InvalidRequest("a label of choices is empty", param="choices")
            return build_tree(tokens, self._tokens.terminator)

        return self._trees.get(labels, make)


_LIMITS: tuple[tuple[str, Callable[[GenerateRequest], bool], str], ...] = (
    ("max_tokens", lambda r: r.max_tokens >= 1, "must be at least 1"),
    ("temperature", lambda r: math.isfinite(r.temperature) and r.temperature >= 0, "must be a number of at least 0"),
    ("top_p", lambda r: 0 < r.top_p <= 1, "must be above 0 and at most 1"),
    ("top_k", lambda r: r.top_k >= 0, "must be at least 0"),
    ("top_logprobs", lambda r: 0 <= r.top_logprobs <= MAX_TOP_LOGPROBS, f"must be between 0 and {MAX_TOP_LOGPROBS}"),
    ("stop", lambda r: all(r.stop), "must not hold an empty text"),
    ("stop", lambda r: len(r.stop) <= MAX_STOPS, f"must hold at most {MAX_STOPS} texts"),
    (
        "stop",
        lambda r: all(len(stop) <= MAX_STOP_CHARACTERS for stop in r.stop),
        f"must hold texts of at most {MAX_STOP_CHARACTERS} characters",
    ),
    ("logit_bias", lambda r: len(r.logit_bias) <= MAX_BIASED_TOKENS, f"must hold at most {MAX_BIASED_TOKENS} tokens"),
    ("logit_bias", lambda r: all(math.isfinite(v) for v in r.logit_bias.values()), "must hold finite numbers"),
)


def _check_sampling(request: GenerateRequest) -> None:
    for name, holds, rule in _LIMITS:
        if not holds(request):
            raise InvalidRequest(f"{name} {rule}", param=name)
