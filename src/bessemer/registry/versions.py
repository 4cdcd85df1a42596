"""Names of model versions: the model, then a hash of everything that decides its answers."""

import re
import time

import msgspec

from bessemer.core.content import content_hash
from bessemer.core.errors import InvalidRequest
from bessemer.core.models import Lineage, ModelVersion
from bessemer.core.types import JSON, as_json

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
_HASH_DIGITS = 12


def check_name(name: str, what: str) -> str:
    """Return a name of a model, alias or route. Raises InvalidRequest for one that could not be written as a target."""
    if len(name) > 200 or not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{what} {name!r}: use letters, digits, '.', '_' and '-', and at most one '/' inside.", param=what
        )
    return name


def default_name(model: str) -> str:
    """Return the name of a model tuned from another without a suffix."""
    return f"{model}-tuned"


def version_id(version: ModelVersion) -> str:
    """Return `model@hash`: 12 hex digits of the hash of the version without its id and date."""
    content = {name: value for name, value in as_json(version).items() if name not in {"id", "created_at"}}
    for later in ("temperature", "rung_sha256"):
        if content[later] is None:
            del content[later]  # versions from before there was one keep their names
    return f"{version.model}@{content_hash(content)[:_HASH_DIGITS]}"


def make_version(
    model: str,
    *,
    created_at: float | None = None,
    prompt: str | None = None,
    prompt_sha256: str | None = None,
    adapter_sha256: str | None = None,
    choices: tuple[str, ...] = (),
    choice_bias: tuple[float, ...] = (),
    response_schema: JSON | None = None,
    grammar: str | None = None,
    field_threshold: float = 0.0,
    max_tokens: int = 256,
    temperature: float | None = None,
    lineage: Lineage | None = None,
    rung_sha256: str | None = None,
) -> ModelVersion:
    """Return a version with its id; the same content gives the same id. Raises InvalidRequest for what cannot be."""
    check_name(model, "model")
    if choice_bias and len(choice_bias) != len(choices):
        raise InvalidRequest(
            f"choice_bias has {len(choice_bias)} numbers for {len(choices)} choices: give one each.",
            param="choice_bias",
        )
    if len(set(choices)) != len(choices):
        raise InvalidRequest("choices holds the same answer twice: remove one.", param="choices")
    if not 0 <= field_threshold < 1:
        raise InvalidRequest(
            f"field_threshold is {field_threshold}: give a probability from 0 to below 1.", param="field_threshold"
        )
    if max_tokens < 1:
        raise InvalidRequest(f"max_tokens is {max_tokens}: give a number from 1 up.", param="max_tokens")
    if temperature is not None and not 0 <= temperature <= 2:
        raise InvalidRequest(f"temperature is {temperature}: give a number from 0 to 2.", param="temperature")
    version = ModelVersion(
        id="",
        model=model,
        created_at=time.time() if created_at is None else created_at,
        prompt=prompt,
        prompt_sha256=prompt_sha256,
        adapter_sha256=adapter_sha256,
        choices=choices,
        choice_bias=choice_bias,
        response_schema=response_schema,
        grammar=grammar,
        field_threshold=field_threshold,
        max_tokens=max_tokens,
        temperature=temperature,
        lineage=lineage,
        rung_sha256=rung_sha256,
    )
    return msgspec.structs.replace(version, id=version_id(version))
