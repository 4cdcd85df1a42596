"""What was said of an inference or an episode, by whom, and why it was asked for."""

from enum import StrEnum

import msgspec

from bessemer.core.types import DEFAULT_PROJECT, Frozen


class FeedbackKind(StrEnum):
    """The closed set of feedback."""

    BOOLEAN = "boolean"
    FLOAT = "float"
    COMMENT = "comment"
    DEMONSTRATION = "demonstration"


class FeedbackSource(StrEnum):
    """Who or what said it (MLflow's assessment sources)."""

    HUMAN = "human"
    """A person, as the key of a reviewer says (an application's key claims it at most)."""
    APPLICATION = "application"
    """An application, for whomever it claims to speak."""
    LLM_JUDGE = "llm_judge"
    CODE = "code"
    OUTCOME = "outcome"


class Stream(StrEnum):
    """Why feedback was asked for."""

    AUDIT = "audit"
    QUERY = "query"


class Asked(Frozen, frozen=True):
    """That feedback was asked for, and with what probability it would have been."""

    stream: Stream
    chance: float
    """P(asked) of the audit's draw; 1 of a query, which is picked for what it is."""


class Feedback(Frozen, frozen=True):
    """Something learned about an inference or an episode. Appended once."""

    id: str
    metric: str
    """`verdict` and other boolean or float metrics; `comment`; `demonstration`."""
    kind: FeedbackKind
    value: bool | float | str
    source: FeedbackSource
    created_at: float
    inference_id: str | None = None
    episode_id: str | None = None
    author: str | None = None
    """Name of the key that gave it."""
    trust: float = 1.0
    """Weight in [0, 1], the key's."""
    key_id: str | None = None
    reviewer: bool | None = None
    """Whether the key may judge what others asked; None: of an earlier release, which did not note it."""
    claimed_author: str | None = None
    """What the client said of itself: kept, and believed only where it takes weight away."""
    claimed_trust: float | None = None
    claimed_source: FeedbackSource | None = None
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    project_id: str = DEFAULT_PROJECT
