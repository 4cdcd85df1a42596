"""What was asked and answered: an inference, and its calls of models."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from bessemer.core.conversation import ToolCall
from bessemer.core.datasets import Split
from bessemer.core.feedback import Asked
from bessemer.core.types import DEFAULT_PROJECT, JSON, Frozen

INTERNAL_KEY = "internal"
"""Key id of what Bessemer asks itself."""
JUDGED = "judge"
"""Origin of a grader's question to a model."""


class TokenLogprob(Frozen, frozen=True):
    """A generated token and its log-probability (natural log) under the version that answered."""

    token: str
    logprob: float
    forced: bool = False
    """A grammar left no other token: no decision was made here, so confidence scores leave it out."""


class ModelCall(Frozen, frozen=True):
    """One attempt at one provider."""

    id: str
    inference_id: str
    step: int
    version: str
    provider: str
    output: str | None
    finish_reason: str | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    latency_s: float
    created_at: float
    ttft_s: float | None = None
    cached_tokens: int | None = None
    token_logprobs: tuple[TokenLogprob, ...] = ()
    choice_logprobs: dict[str, float] | None = None
    """Normalised log-probability per choice, when the answer is enumerable."""
    score: float | None = None
    """Raw confidence score named by the step's calibration."""
    confidence: float | None = None
    """Calibrated P(correct)."""
    accepted: bool = True
    propensity: float = 1.0
    """Probability with which the router drew this target in this step."""
    prompt: str | None = None
    temperature: float | None = None
    """It was asked at; None: the upstream's own default, or a record from before it was kept."""
    error: str | None = None
    error_detail: str | None = None
    """What the upstream itself said, masked and cut; shown to who may do everything, and to nobody else."""
    reasoning: str | None = None
    """What the model thought before it answered, where it was told."""
    refusal: str | None = None
    """What the model said in place of an answer."""
    tool_calls: tuple[ToolCall, ...] = ()
    endpoint: str | None = None
    """Which of the model's servers was asked, as `model/endpoint`; None: it has one."""
    estimated: bool = False
    """Tokens and cost are estimated: it broke off, was left, or came without a usage."""
    stated_usd: float | None = None
    """What the upstream itself says it costs; `cost_usd` is by our prices."""


class Inference(Frozen, frozen=True):
    """One client request and its answer. Appended once."""

    id: str
    route: str
    created_at: float
    key_id: str
    messages: tuple[JSON, ...]
    """As the client sent them; empty when only structured input was sent."""
    input: JSON | None
    """Structured input, when the client sent it: renders again through any later prompt."""
    input_sha256: str
    """`input_hash` of `input`, or of `messages` without one: splits are made by it."""
    output: str | None
    finish_reason: str | None
    version: str | None
    """The version whose answer was returned."""
    input_tokens: int | None
    """Of all calls; of one that failed what is known of it. None when those of a call that answered are unknown, or of
    none anything is known. So it is with the output and the cost."""
    output_tokens: int | None
    cost_usd: float | None
    latency_s: float
    propensity: float
    config_sha256: str
    calls: tuple[ModelCall, ...]
    ttft_s: float | None = None
    episode_id: str | None = None
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    """The client's own."""
    user: str | None = None
    """OpenAI's `user`, as the client sent it."""
    origin: str | None = None
    """Why Bessemer asked this itself (evaluation, judge); None: a client did. No client can write it."""
    split: Split | None = None
    """The split that a key with the right to contribute gave the input."""
    hash_version: int = 1
    """Of `input_sha256`; rows of version 1 kept `user` and `origin` among their tags."""
    error: str | None = None
    project_id: str = DEFAULT_PROJECT
    on_behalf_of: str | None = None
    """The key for whose job or grade Bessemer itself asked; None when `key_id` is the client's."""
    reasoning: str | None = None
    refusal: str | None = None
    tools: tuple[JSON, ...] = ()
    """Those that the client offered, as the chat format writes them."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Those that the answer asks for."""
    policy_sha256: str | None = None
    """Of the policy that allowed it; None in a row of an earlier release."""
    asked: Asked | None = None
    """That the audit of its route drew it: feedback on it is wanted."""
    cache: Literal["exact", "semantic"] | None = None
    """By what likeness of questions its answer came from the cache; None: from a model."""
    saved_usd: float | None = None
    """What an answer from the cache would have cost anew; None: it came from a model, or that is not known."""

    @property
    def made_by_bessemer(self) -> bool:
        """Whether no client asked this."""
        return self.origin is not None or (self.hash_version == 1 and self.key_id == INTERNAL_KEY)

    def has_tags(self, wanted: Mapping[str, str]) -> bool:
        """Whether all pairs are among the tags; `user` may be OpenAI's field as well."""
        return all(
            self.tags.get(name) == value or (name == "user" and self.user == value) for name, value in wanted.items()
        )
