"""What a fine-tuning request must satisfy before a job row is written: ranges, files, model, grader."""

import re
from typing import Final, NamedTuple

import msgspec

from bessemer.core.errors import InvalidRequest, NotFound
from bessemer.core.openai import (
    FineTuningJobRequest,
    Method,
    ReinforcementHyperparameters,
    SupervisedHyperparameters,
    SupervisedMethod,
)
from bessemer.core.types import ProviderKind
from bessemer.evals import graders
from bessemer.evals.fields import fields_read
from bessemer.evals.grader import Services as GraderServices
from bessemer.feedback.rows import lines_of, read_rows
from bessemer.registry.catalog import Catalog
from bessemer.store import files
from bessemer.store.blobs import Blobs
from bessemer.store.database import Database
from bessemer.store.files import FINE_TUNE, FileRow
from bessemer.tuning import preflight
from bessemer.tuning.lengths import LengthCheck
from bessemer.tuning.options import check_options, parse_options
from bessemer.tuning.preparation import length_check, prepare

_RANGES: Final[dict[str, tuple[float, float]]] = {
    "n_epochs": (1, 50),
    "batch_size": (1, 256),
    "compute_multiplier": (1e-5, 10),
    "eval_interval": (1, float("inf")),
    "eval_samples": (1, float("inf")),
}
_SUFFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_SEED: Final = 2_147_483_647


class Checked(NamedTuple):
    """A request that can run: its method with defaults filled in, and what a person should know before it does."""

    method: Method
    warnings: tuple[str, ...]


def check_request(
    request: FineTuningJobRequest, catalog: Catalog, database: Database, blobs: Blobs, grader_services: GraderServices
) -> Checked:
    """Check a request with its files. Raises InvalidRequest that names the field; blocking."""
    _check_scalars(request)
    method = method_of(request)
    check_options(parse_options(request.metadata), method.type)
    if method.reinforcement is not None:
        graders.check(method.reinforcement.grader, grader_services)
    try:
        resolved = catalog.resolve(request.model)
    except NotFound as error:
        raise NotFound(error.message, param="model", code="model_not_found") from None
    if resolved.model.provider is not ProviderKind.LOCAL:
        raise InvalidRequest(
            f"{request.model!r} is served by {resolved.model.provider.value}; only local models can be tuned.",
            param="model",
        )
    if request.suffix is not None and (taken := catalog.taken(request.suffix, resolved.model.name)):
        raise InvalidRequest(f"'suffix' {request.suffix!r} is the name of {taken}; choose another.", param="suffix")
    named = {"training_file": request.training_file, "validation_file": request.validation_file}
    found = {param: _file(id_, param, database) for param, id_ in named.items() if id_ is not None}
    request = msgspec.structs.replace(request, method=method)
    plan = prepare(request, catalog, database)  # what the worker will do first: names that lead nowhere
    check = length_check(plan, catalog)
    surveys = {param: _survey(row, param, method, check, blobs) for param, row in found.items()}
    body = method.reinforcement or method.supervised
    rate = None if body is None else body.hyperparameters.learning_rate_multiplier
    told = preflight.warnings(
        surveys["training_file"], surveys.get("validation_file"), None if isinstance(rate, str) else rate
    )
    return Checked(method, told)


def method_of(request: FineTuningJobRequest) -> Method:
    """Return the method of a request, its body filled in and its ranges checked. Raises InvalidRequest."""
    method = request.method
    if method is None:
        body = SupervisedMethod(hyperparameters=request.hyperparameters or SupervisedHyperparameters())
        method = Method(type="supervised", supervised=body)
    elif request.hyperparameters is not None:
        raise InvalidRequest(
            "'hyperparameters' is deprecated and cannot join 'method'; write them under the method.",
            param="hyperparameters",
        )
    if method.type == "dpo":
        raise InvalidRequest("The method 'dpo' is not offered; use supervised or reinforcement.", param="method.type")
    for name in ("supervised", "reinforcement", "dpo"):
        if name != method.type and getattr(method, name) is not None:
            raise InvalidRequest(f"'method.{name}' does not belong to type {method.type!r}.", param=f"method.{name}")
    if method.type == "supervised" and method.supervised is None:
        method = Method(type="supervised", supervised=SupervisedMethod())
    body_of_type = method.supervised if method.type == "supervised" else method.reinforcement
    if body_of_type is None:
        raise InvalidRequest(
            "Missing required parameter: 'method.reinforcement' (with its grader).",
            param="method.reinforcement",
            code="missing_required_parameter",
        )
    _check_ranges(body_of_type.hyperparameters, f"method.{method.type}.hyperparameters")
    if method.reinforcement is not None:
        _check_offered(method.reinforcement.hyperparameters, "method.reinforcement.hyperparameters")
        if method.reinforcement.response_format not in (None, {"type": "text"}):
            raise InvalidRequest(
                "'response_format' is not offered: a version's answers follow the schema of its prompt or model in "
                "bessemer.toml. Leave it out.",
                param="method.reinforcement.response_format",
            )
    return method


def _check_offered(values: ReinforcementHyperparameters, where: str) -> None:
    """Refuse what would be ignored."""
    if values.eval_samples != "auto":
        raise InvalidRequest(
            "'eval_samples' is not offered: the answer that the model would give is evaluated once. Leave it out.",
            param=f"{where}.eval_samples",
        )
    if values.reasoning_effort not in {None, "default"}:
        raise InvalidRequest(
            "'reasoning_effort' is not offered: local models do not reason apart. Leave it out.",
            param=f"{where}.reasoning_effort",
        )


def _check_ranges(values: SupervisedHyperparameters | ReinforcementHyperparameters, where: str) -> None:
    for name, (low, high) in _RANGES.items():
        value = getattr(values, name, "auto")
        if isinstance(value, int | float) and not low <= value <= high:
            bound = f"at least {low:g}" if high == float("inf") else f"{low:g} to {high:g}"
            raise InvalidRequest(f"'{name}' must be 'auto' or {bound}; got {value}.", param=f"{where}.{name}")
    rate = values.learning_rate_multiplier
    if not isinstance(rate, str) and not 0 < rate < float("inf"):
        raise InvalidRequest(
            f"'learning_rate_multiplier' must be 'auto' or above 0; got {rate}.",
            param=f"{where}.learning_rate_multiplier",
        )


def _check_scalars(request: FineTuningJobRequest) -> None:
    if request.suffix is not None and not _SUFFIX.fullmatch(request.suffix):
        raise InvalidRequest(
            "'suffix' must be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit.", param="suffix"
        )
    if request.seed is not None and not 0 <= request.seed <= _MAX_SEED:
        raise InvalidRequest(f"'seed' must be 0 to {_MAX_SEED}; got {request.seed}.", param="seed")
    if request.integrations:
        raise InvalidRequest(
            "'integrations' are not offered: nothing leaves the boundary. Remove it.", param="integrations"
        )


def _file(file_id: str, param: str, database: Database) -> FileRow:
    """Return a job's file. Raises InvalidRequest on the job's field."""
    try:
        row = files.get(database, file_id)
    except NotFound:
        raise InvalidRequest(
            f"'{param}': no file {file_id!r}; upload it with POST /v1/files first.", param=param, code="file_not_found"
        ) from None
    if row.purpose != FINE_TUNE:
        raise InvalidRequest(f"'{param}' {file_id!r} has purpose {row.purpose!r}; it needs {FINE_TUNE!r}.", param=param)
    return row


def _survey(row: FileRow, param: str, method: Method, check: LengthCheck, blobs: Blobs) -> preflight.Survey:
    """Read a job's file from its first row to its last. Raises InvalidRequest on the job's field."""
    survey = preflight.Survey(fields_read(method.reinforcement.grader) if method.reinforcement else ())
    try:
        with blobs.get(row.sha256).open("rb") as lines:
            survey.add(check.of(read_rows(lines_of(lines), param, supervised=method.type == "supervised"), param))
    except InvalidRequest as error:
        code = "invalid_training_file" if error.error_code == "invalid_file" else error.error_code
        raise InvalidRequest(error.message, param=error.param, code=code) from None
    return survey
