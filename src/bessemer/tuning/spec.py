"""What a tuning run is told and what it reports. No torch here."""

from collections.abc import Callable, Sequence

from bessemer.core.types import JSON, Frozen
from bessemer.evals.grader import Failure

RewardValue = float | Failure | None
"""A reward; None where nobody knows it (a verdict on another answer settles nothing), a Failure where the grader
broke. Both are unscorable; only failures say that something must be mended."""
RewardFunction = Callable[[Sequence[tuple[JSON, str]]], Sequence[RewardValue]]
"""(item, answer text) of many answers -> their rewards."""


class MethodSpec(Frozen, frozen=True):
    """What decides the outcome of one method's run alone: a subclass of each method that has something."""


class TuneSpec(Frozen, frozen=True):
    """Everything that decides the outcome of a run besides its rows and rewards."""

    base: str
    """GGUF file or safetensors folder."""
    method: str
    """By its name in the table of methods."""
    own: MethodSpec | None = None
    """What the method alone goes by, in its own type; None: its defaults."""
    choices: tuple[str, ...] = ()
    """The possible answers, where they can be enumerated."""
    rank: int = 32
    alpha: float | None = None
    """None: the rank, a scale of one."""
    first_layer: int = 0
    """Layers below it stay without an adapter: no backward pass there."""
    adapter: str | None = None
    """peft folder to start from, for example the supervised adapter that is to be reinforced."""
    epochs: float = 1.0
    revisit: float = 0.05
    """Share of the solved rows that an epoch takes up again; 1: all. A row is solved when its best answer had at least
    `solved_at` of the probability the last time it was seen."""
    solved_at: float = 0.98
    batch_size: int | None = None
    """Prompts per optimizer step; None: the method's."""
    learning_rate: float | None = None
    """Peak, after warm-up; None: the method's."""
    warmup: float = 0.05
    """Share of the steps with a rising learning rate; afterwards it falls linearly to zero."""
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.98
    clip_norm: float = 1.0
    seed: int = 0
    tokens_per_pass: int = 2048
    """Upper bound of packed tokens in one forward and backward pass; bounds memory, changes no result."""
    max_tokens: int = 128
    """Longest sampled answer; a truncated one carries no gradient."""
    response_schema: JSON | None = None
    """JSON schema that sampled answers follow."""
    grammar: str | None = None
    """Lark grammar that sampled answers follow, a template that is filled with each row's `input`."""
    field_threshold: float | None = 0.0
    """JSON answers: less probable values are left out of what is evaluated; None: chosen at each evaluation."""
    evaluations: int = 4
    """Evaluations on the validation rows over the run, the last one after the last step; 0: none."""
    checkpoint_every_s: float = 30.0
    max_seconds: float | None = None
    """Cap on the time spent in steps and evaluations, over all restarts."""
    max_failures: float = 0.5
    """A step in which the grader fails on a larger share of the answers stops the run."""
    threads: int | None = None
    context_tokens: int | None = None
    """Tokens of question and answer that the model is served with; None: what it was made for."""


class Validation(Frozen, frozen=True):
    """One evaluation on the validation rows."""

    step: int
    score: float | None
    """What checkpoints are chosen by; higher is better. None: nothing could be scored."""
    loss: float | None = None
    """supervised: mean negative log-likelihood of a completion token."""
    mean_reward: float | None = None
    """Mean reward of the answer the model would give (greedy); None where it is not known of some sampled answers."""
    reward_bounds: tuple[float, float] | None = None
    """The mean reward if every answer that nobody judged were as bad, or as good, as can be."""
    row_scores: tuple[float | None, ...] = ()
    """What each row contributes to the score, in the order of the rows; None: unscorable. For paired comparisons."""
    row_bounds: tuple[tuple[float, float] | None, ...] = ()
    """Sampled answers: each row's lowest and highest possible reward; None: the grader failed. Empty: as scored."""
    unknown: int = 0
    """Rows whose answer nobody judged."""
    failure: Failure | None = None
    """What the grader failed with on some row."""
    field_threshold: float = 0.0
    """The threshold of the values' probabilities at which the score was reached."""
    logprobs: tuple[tuple[float, ...], ...] | None = None
    """exact: log-probability of each choice, terminator included, unnormalised: [rows][choices]."""
    rewards: tuple[tuple[float | None, ...], ...] | None = None
    """exact: the same shape."""


class StepReport(Frozen, frozen=True):
    """One optimizer step."""

    step: int
    total_steps: int
    metrics: dict[str, float]
    validation: Validation | None = None
    saved: bool = False
    """The state on disk includes this step."""
    note: str | None = None
    """What a person should know about this step."""
