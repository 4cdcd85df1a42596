"""Datasets of an uploaded file: an OpenAI user's training rows become examples to evaluate, gate and calibrate on."""

from collections import Counter
from collections.abc import Iterator

import msgspec

from bessemer import __version__
from bessemer.core.content import HASH_VERSION, canonical_json, input_hash
from bessemer.core.datasets import Dataset, Example, Split
from bessemer.core.errors import InvalidRequest
from bessemer.core.types import JSON, as_json
from bessemer.core.wire import DatasetRequest
from bessemer.feedback.datasets import SHOWN, check_splits, freeze, split_of
from bessemer.feedback.rows import TrainingRow, lines_of, read_rows
from bessemer.store import files
from bessemer.store.blobs import BlobStore
from bessemer.store.database import Database

REFERENCE = "reference_answer"
_SPLIT = "split"
_OF_FILES = {"name", "file_id", "reference", "splits", "split_tag", "salt"}


def build_from_file(
    database: Database,
    blobs: BlobStore,
    request: DatasetRequest,
    *,
    code_commit: str | None,
    now: float,
    key_id: str | None,
    approved: bool = True,
) -> Dataset:
    """Freeze a dataset of the file `file_id`: one example for each input, in the split that its row names, or by hash.

    The right answer is the last demonstration of a supervised row, or a reinforcement row's field `reference`. Of rows
    with one input the first counts; contradicting ones are counted. A row that names no split that there is is set
    aside. Raises NotFound, or InvalidRequest for options that are of inferences alone.
    """
    plain = DatasetRequest(name=request.name)
    strange = [
        name
        for name in request.__struct_fields__
        if name not in _OF_FILES and getattr(request, name) != getattr(plain, name)
    ]
    if strange:
        raise InvalidRequest(
            f"`{strange[0]}` selects inferences, and this dataset is of a file; leave it out.", param=strange[0]
        )
    check_splits(request.splits)
    assert request.file_id is not None
    file = files.get(database, request.file_id)
    excluded: Counter[str] = Counter()
    quarantined: dict[str, str] = {}
    found: dict[str, tuple[Example, JSON]] = {}
    with blobs.open(file.sha256) as lines:
        for row in read_rows(lines_of(lines), "file_id"):
            example = _example(row, request)
            if isinstance(example, str):
                excluded["quarantined"] += 1
                quarantined[f"row-{row.number}"] = example
                continue
            first, _ = found.setdefault(input_hash(example.input, example.messages), (example, _line(row)))
            if first is not example:
                excluded["same_input"] += 1
                excluded["contradictions"] += first.demonstration != example.demonstration
    if not found:
        reason = next(iter(quarantined.values()), "it has no rows")
        raise InvalidRequest(f"No row of {request.file_id!r} can be an example: {reason}", param="file_id")
    by_split: dict[Split, list[bytes]] = {}
    for example, line in found.values():
        by_split.setdefault(example.split, []).append(canonical_json(line) + b"\n")
    content = {split: b"".join(own) for split, own in by_split.items()}
    provenance: JSON = {
        "file_id": file.id,
        "file_sha256": file.sha256,
        "request": as_json(request),
        "excluded": dict(sorted(excluded.items())),
        "quarantined": dict(list(quarantined.items())[:SHOWN]),
        "hash_version": HASH_VERSION,
        "built_by": key_id,
        "bessemer": __version__,
        "code_commit": code_commit,
    }
    examples = [example for example, _ in found.values()]
    return freeze(
        database, blobs, request.name, examples, content, provenance, now=now, key_id=key_id, approved=approved
    )


def _example(row: TrainingRow, request: DatasetRequest) -> Example | str:
    """Return the example that a row is, or why it is none."""
    given = row.item.get(request.split_tag or _SPLIT)
    if given is not None and given not in list(Split):
        # Not the value: the reason is kept where those read it who may not read content.
        return f"`{request.split_tag or _SPLIT}` names no split; splits are {', '.join(Split)}."
    structured = row.item.get("input")
    input_ = structured if isinstance(structured, dict) else None
    right = row.completion if row.completion is not None else row.item.get(request.reference or REFERENCE)
    if right is not None and not isinstance(right, str):
        right = msgspec.json.encode(right).decode()
    digest = input_hash(input_, row.messages)
    return Example(
        id=f"row-{row.number}",
        split=Split(given) if given is not None else split_of(digest, request.salt, request.splits),
        input=input_,
        messages=row.messages,
        answer=None,
        demonstration=right,
        weight=row.weight,
        item=row.item,
    )


def _line(row: TrainingRow) -> JSON:
    """Return a row as a line of a training file, its masks included."""
    return {**row.item, "messages": list(_messages(row)), "weight": row.weight}


def _messages(row: TrainingRow) -> Iterator[JSON]:
    for place, message in enumerate(row.messages):
        masked = row.completion is not None and message["role"] == "assistant" and place not in row.taught
        yield {**message, "weight": 0} if masked else message
    if row.completion is not None:
        yield {"role": "assistant", "content": row.completion}
