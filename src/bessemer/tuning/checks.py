"""What a fine-tuning request must satisfy before a job row is written: ranges, files, model, grader."""

import re
from typing import Final, NamedTuple

from bessemer.core.errors import InvalidRequest, NotFound
from bessemer.core.models import Capability
from bessemer.core.openai import FineTuningJobRequest
from bessemer.engine.extra import check_installed
from bessemer.evals import graders
from bessemer.evals.fields import fields_read
from bessemer.evals.grader import GraderServices
from bessemer.feedback.rows import lines_of, read_rows
from bessemer.registry.catalog import Catalog
from bessemer.store import files
from bessemer.store.blobs import BlobStore
from bessemer.store.database import Database
from bessemer.store.files import FINE_TUNE, FileRow
from bessemer.tuning import preflight
from bessemer.tuning.lengths import LengthCheck
from bessemer.tuning.methods import RequestedMethod, check_options, check_suited, named, read_method
from bessemer.tuning.options import parse_options
from bessemer.tuning.preparation import length_check, prepare

_SUFFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_SEED: Final = 2_147_483_647


class Checked(NamedTuple):
    """A request that can run: its method with defaults filled in, and what a person should know before it does."""

    method: RequestedMethod
    warnings: tuple[str, ...]


def check_request(
    request: FineTuningJobRequest,
    catalog: Catalog,
    database: Database,
    blobs: BlobStore,
    grader_services: GraderServices,
) -> Checked:
    """Check a request with its files. Raises InvalidRequest that names the field; blocking."""
    _check_scalars(request)
    method = read_method(request.method, request.hyperparameters)
    check_options(parse_options(request.metadata), method)
    if method.grader is not None:
        graders.check(method.grader, grader_services)
    try:
        resolved = catalog.resolve(request.model)
    except NotFound as error:
        raise NotFound(error.message, param="model", code="model_not_found") from None
    if not resolved.model.can(Capability.ADAPTERS):
        raise InvalidRequest(
            f"{request.model!r} is served by {resolved.model.provider}; only local models can be tuned.",
            param="model",
        )
    check_installed()
    if request.suffix is not None and (taken := catalog.taken(request.suffix, resolved.model.name)):
        raise InvalidRequest(f"'suffix' {request.suffix!r} is the name of {taken}; choose another.", param="suffix")
    given = {"training_file": request.training_file, "validation_file": request.validation_file}
    found = {param: _file(id_, param, database) for param, id_ in given.items() if id_ is not None}
    plan = prepare(request, catalog, database)  # what the worker will do first: names that lead nowhere
    check_suited(plan.options, named(plan.algorithm))
    check = length_check(plan, catalog)
    surveys = {param: _survey(row, param, method, check, blobs) for param, row in found.items()}
    rate = method.body.hyperparameters.learning_rate_multiplier
    told = preflight.warnings(
        surveys["training_file"], surveys.get("validation_file"), None if isinstance(rate, str) else rate
    )
    return Checked(method, told)


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


def _survey(
    row: FileRow, param: str, method: RequestedMethod, check: LengthCheck, blobs: BlobStore
) -> preflight.Survey:
    """Read a job's file from its first row to its last. Raises InvalidRequest on the job's field."""
    survey = preflight.Survey(() if method.grader is None else fields_read(method.grader))
    try:
        with blobs.open(row.sha256) as lines:
            survey.add(check.of(read_rows(lines_of(lines), param, method.rows), param))
    except InvalidRequest as error:
        code = "invalid_training_file" if error.error_code == "invalid_file" else error.error_code
        raise InvalidRequest(error.message, param=error.param, code=code) from None
    return survey
