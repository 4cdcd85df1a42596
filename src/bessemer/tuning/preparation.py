"""From a job row to what the training core needs: parsed rows, the version to start from, the rules of its answers."""

from pathlib import Path
from typing import NamedTuple

import msgspec

from bessemer.core.content import content_hash
from bessemer.core.errors import InvalidRequest, NotFound
from bessemer.core.models import Lineage, Model, ModelVersion, Prompt
from bessemer.core.openai import FineTuningJobRequest
from bessemer.core.types import JSON, Frozen, as_json
from bessemer.feedback.rows import TrainingRow, parse_rows
from bessemer.registry.catalog import Catalog
from bessemer.registry.versions import default_name, make_version
from bessemer.registry.weights import WeightsSettings
from bessemer.store import datasets, files
from bessemer.store.blobs import BlobStore
from bessemer.store.database import Database
from bessemer.store.job_rows import JobRow
from bessemer.tuning.lengths import LengthCheck
from bessemer.tuning.methods import named, read_method
from bessemer.tuning.options import Options, parse_options


class Preparation(Frozen, frozen=True):
    """Everything that decides the outcome of a job, besides the rows."""

    algorithm: str
    """The tuning method's name."""
    model: str
    """The base model's name."""
    start: str
    """The version to start from."""
    adapter_sha256: str | None
    """Its adapter, when it is a tuned one."""
    prompt: str | None
    prompt_sha256: str | None
    weights: str | None
    """What `Catalog.weights` said of the base model."""
    choices: tuple[str, ...]
    response_schema: JSON | None
    grammar: str | None
    max_tokens: int
    grader: JSON | None
    hyperparameters: JSON
    """As the request has them; the method knows their type."""
    options: Options
    seed: int
    suffix: str | None
    training_sha256: str
    validation_sha256: str | None


class Rows(NamedTuple):
    """Parsed training and validation rows; without a validation file the latter is empty."""

    training: tuple[TrainingRow, ...]
    validation: tuple[TrainingRow, ...]


def prepare(request: FineTuningJobRequest, catalog: Catalog, database: Database) -> Preparation:
    """Resolve a job's names and files. Raises InvalidRequest or NotFound that name the field."""
    asked = read_method(request.method, request.hyperparameters)
    options = parse_options(request.metadata)
    resolved = catalog.resolve(request.model)
    training = files.get(database, request.training_file)
    prompt_name = options.prompt or _dataset_prompt(database, request.training_file) or resolved.version.prompt
    prompt = None if prompt_name is None else _prompt(catalog, prompt_name)
    choices = _choices(resolved.version, prompt)
    if options.positive is not None and options.positive not in choices:
        raise InvalidRequest(
            f"bessemer.positive is {options.positive!r}; the choices are {', '.join(map(repr, choices)) or 'not set'}.",
            param="metadata",
        )
    method = asked.choose(choices)
    method.check_answers(options)
    return Preparation(
        algorithm=method.name,
        model=resolved.model.name,
        start=resolved.version.id,
        adapter_sha256=resolved.version.adapter_sha256,
        prompt=prompt_name,
        prompt_sha256=None if prompt is None else content_hash(prompt),
        weights=catalog.weights(resolved.model.name),
        choices=choices,
        response_schema=resolved.version.response_schema or (prompt.response_schema if prompt else None),
        grammar=resolved.version.grammar or (prompt.grammar if prompt else None),
        max_tokens=(prompt.max_tokens if prompt and prompt.max_tokens else resolved.version.max_tokens),
        grader=asked.grader,
        hyperparameters=as_json(asked.body.hyperparameters),
        options=options,
        seed=request.seed or 0,
        suffix=request.suffix,
        training_sha256=training.sha256,
        validation_sha256=None
        if request.validation_file is None
        else files.get(database, request.validation_file).sha256,
    )


def load_rows(plan: Preparation, blobs: BlobStore) -> Rows:
    """Parse the job's files. Raises InvalidRequest that names the line."""
    kind, validation = named(plan.algorithm).rows, plan.validation_sha256
    return Rows(
        parse_rows(blobs.read(plan.training_sha256), "training_file", kind),
        () if validation is None else parse_rows(blobs.read(validation), "validation_file", kind),
    )


def job_request(row: JobRow) -> FineTuningJobRequest:
    """Return the job's request as it was accepted."""
    return msgspec.convert(row.request, FineTuningJobRequest)


def tuned_version(
    plan: Preparation,
    row: JobRow,
    adapter_sha256: str,
    *,
    choice_bias: tuple[float, ...],
    field_threshold: float,
    code_commit: str | None,
) -> ModelVersion:
    """Return the version that a job made, with everything needed to make it again."""
    return make_version(
        plan.suffix or default_name(plan.model),
        prompt=plan.prompt,
        prompt_sha256=plan.prompt_sha256,
        adapter_sha256=adapter_sha256,
        choices=plan.choices,
        choice_bias=choice_bias if any(choice_bias) else (),
        response_schema=plan.response_schema,
        grammar=plan.grammar,
        field_threshold=field_threshold,
        max_tokens=plan.max_tokens,
        temperature=plan.options.temperature,
        lineage=Lineage(
            base=plan.start,
            weights=plan.weights,
            dataset_sha256=plan.training_sha256,
            grader=plan.grader,
            method=plan.algorithm,
            hyperparameters=msgspec.to_builtins({"openai": plan.hyperparameters, "options": plan.options}),
            seed=plan.seed,
            code_commit=code_commit,
            job_id=row.id,
        ),
    )


def _dataset_prompt(database: Database, file_id: str) -> str | None:
    """Return the prompt that rendered a dataset's file; None for a file that was uploaded."""
    dataset = datasets.of_file(database, file_id)
    prompt = None if dataset is None else dataset.provenance.get("request", {}).get("prompt")
    return prompt if isinstance(prompt, str) else None


def _prompt(catalog: Catalog, name: str) -> Prompt:
    try:
        return catalog.prompt(name)
    except NotFound as error:
        raise InvalidRequest(f"bessemer.prompt: {error.message}", param="metadata") from None


def _choices(version: ModelVersion, prompt: Prompt | None) -> tuple[str, ...]:
    return version.choices or (prompt.choices if prompt else ())


def base_model(plan: Preparation, catalog: Catalog) -> Model:
    """Return the base model's entry. Raises NotFound when it has left the configuration."""
    model = catalog.model(plan.model)
    if not isinstance(model.settings, WeightsSettings):
        raise NotFound(f"The model {plan.model!r} has no local path any more; restore it in the configuration.")
    return model


def length_check(plan: Preparation, catalog: Catalog) -> LengthCheck:
    """Return what counts the rows of a job that is being created. Raises NotFound as `base_model` does."""
    model = base_model(plan, catalog)
    method = named(plan.algorithm)
    most = max([plan.max_tokens, *(len(choice.encode()) + 1 for choice in plan.choices)])
    return LengthCheck(
        Path(model.settings_as(WeightsSettings).path),
        model.context_tokens,
        lambda tokens: method.answer_room(tokens, plan.choices, plan.max_tokens),
        most,
    )
