"""What is learned from and measured on: examples in splits, frozen."""

from enum import StrEnum

import msgspec

from bessemer.core.feedback import Asked
from bessemer.core.types import JSON, Frozen


class Split(StrEnum):
    """Parts of a dataset; an input is in exactly one of them, by hash."""

    TRAIN = "train"
    SELECTION = "selection"
    """Chooses checkpoints, biases, hyperparameters."""
    CALIBRATION = "calibration"
    """Calibrates confidence and sets cascade thresholds; nothing else sees it."""
    HOLDOUT = "holdout"
    """Seen by the final evaluation alone."""


class Example(Frozen, frozen=True):
    """A frozen row: input, what was answered, what was learned about it."""

    id: str
    split: Split
    input: JSON | None
    messages: tuple[JSON, ...]
    answer: str | None
    verdict: bool | None = None
    demonstration: str | None = None
    scores: dict[str, float] = msgspec.field(default_factory=dict)
    weight: float = 1.0
    version: str | None = None
    """The version that gave `answer`."""
    propensity: float | None = None
    """Chance with which the route drew that version; None: not recorded, or several inferences stand in this row."""
    asked: Asked | None = None
    """Why feedback on this input was asked for; the audit's draw before a query; None: nobody asked."""
    item: JSON = msgspec.field(default_factory=dict)
    """The other fields of an imported row, for graders."""


class Dataset(Frozen, frozen=True):
    """A frozen, content-hashed selection of examples."""

    id: str
    name: str
    sha256: str
    """Blob of the examples, JSON Lines in canonical form."""
    created_at: float
    counts: dict[str, int]
    provenance: JSON
    files: dict[str, str] = msgspec.field(default_factory=dict)
    """OpenAI file id per split, ready for `training_file`."""
    approved: bool | None = None
    """Whether a gate may stand on it: who built it may operate or approve, or somebody who may has approved it. None:
    of an earlier release, which did not ask; then what is known of the key that built it says."""
