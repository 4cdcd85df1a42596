"""Options of a job beyond OpenAI's fields: `metadata` keys that begin with `bessemer.`; unknown ones are refused."""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from bessemer.core.errors import InvalidRequest
from bessemer.core.types import Frozen

PREFIX = "bessemer."


class Options(Frozen, frozen=True):
    """What an OpenAI client may set in a job's metadata, each as a string."""

    max_seconds: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """Cap on training and evaluation in seconds; the job ends with its best checkpoint."""
    prompt: str | None = None
    """Name of the prompt the tuned version renders structured input with; default: the one of the training dataset."""
    metric: Literal["reward", "f1"] = "reward"
    """What checkpoints and the choice bias are selected by on the validation file."""
    positive: str | None = None
    """f1: the choice that counts as positive; default: the first."""
    objective: Literal["reward", "log_reward"] = "log_reward"
    """Enumerable answers: the expected reward or its logarithm, whose gradient does not vanish where the model is
    confidently wrong."""
    rank: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 32
    """LoRA rank."""
    mention_replacement: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """Supervised, JSON answers with values from the prompt: share of them that each reading of a row replaces, in
    prompt and answer, by another row's value of the same field."""
    mention_group: str | None = None
    """Field of the rows' `input` that must be equal for that; default: any row lends to any other."""
    samples_per_prompt: Annotated[int, msgspec.Meta(ge=2, le=1024)] = 8
    """Group size of sampled reinforcement; one sample has nothing to be compared with."""
    credit: Literal["answer", "field"] = "answer"
    """Sampled reinforcement: all tokens of an answer earn its reward, or, in JSON answers, each field what it adds."""
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] = 0.0
    """The tuned version answers at it unless a client asks for another."""
    field_threshold: Annotated[float, msgspec.Meta(ge=0, lt=1)] | Literal["auto"] = 0.0
    """JSON answers: the version leaves out values that are less probable; `auto`, of reinforcement alone: chosen on the
    validation file by the grader, at every evaluation."""


def parse_options(metadata: Mapping[str, str] | None) -> Options:
    """Read a job's options from its metadata. Raises InvalidRequest that names the key and the known ones."""
    values = {key.removeprefix(PREFIX): value for key, value in (metadata or {}).items() if key.startswith(PREFIX)}
    try:
        return msgspec.convert(values, Options, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(PREFIX + field.name for field in msgspec.structs.fields(Options))
        raise InvalidRequest(f"Metadata of the job: {error}. Known keys: {known}.", param="metadata") from error
