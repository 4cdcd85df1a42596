"""Datasets: a frozen, content-hashed join of inferences and feedback, split by hash of the input, with provenance."""

import hashlib
import math
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

import msgspec

from bessemer import __version__
from bessemer.core.content import HASH_VERSION, canonical_json, canonical_messages, input_hash, sha256_hex
from bessemer.core.datasets import Dataset, Example, Split
from bessemer.core.errors import InvalidRequest
from bessemer.core.feedback import Asked, Feedback, Stream
from bessemer.core.ids import new_id
from bessemer.core.inferences import Inference
from bessemer.core.models import Prompt
from bessemer.core.template import render_messages
from bessemer.core.types import JSON, as_json
from bessemer.core.wire import DatasetRequest
from bessemer.feedback.annotators import Author, authors, judgements, weighed
from bessemer.feedback.join import JoinedFeedback, learn
from bessemer.feedback.rights import admissible
from bessemer.feedback.rows import DEMONSTRATION, QUESTION, check_row
from bessemer.identity.policy import Policy
from bessemer.store import audit, datasets, feedback, files, inferences
from bessemer.store.blobs import BlobStore
from bessemer.store.database import Database
from bessemer.store.files import FileRow

WANTED = "feedback.wanted"
"""The audit action that names the inferences of a list that was asked for."""
SHOWN = 100
"""Quarantined rows that a dataset lists with their reasons."""
_STRICTEST_FIRST = (Split.HOLDOUT, Split.CALIBRATION, Split.SELECTION, Split.TRAIN)


def _shown(known: Mapping[str | None, Author]) -> JSON:
    """Return the trust of those keys that often judged what others judged, too."""
    return {name or "unknown": {"trust": one.trust, "overlaps": one.overlaps} for name, one in known.items()}


class _Selected(NamedTuple):
    rows: list[Inference]
    excluded: Counter[str]
    quarantine: dict[str, str]
    """Why an inference cannot be a row, by its id: one bad row does not stop the others."""

    def set_aside(self, inference_id: str, reason: str) -> None:
        self.quarantine[inference_id] = reason
        self.excluded["quarantined"] += 1


def check_splits(splits: Mapping[Split, float]) -> None:
    """Refuse fractions that are negative or do not sum to 1."""
    if any(share < 0 for share in splits.values()) or not math.isclose(math.fsum(splits.values()), 1, abs_tol=1e-6):
        raise InvalidRequest(
            f"splits must be fractions of at least 0 that sum to 1, not {math.fsum(splits.values()):g}.", param="splits"
        )


def split_of(input_sha256: str, salt: str, splits: Mapping[Split, float]) -> Split:
    """Return an input's split: SHA-256 of salt and input as a fraction of 1, against the cumulated shares."""
    digest = hashlib.sha256(f"{salt}:{input_sha256}".encode()).digest()
    point = int.from_bytes(digest[:7], "big") / 2**56
    reached = 0.0
    parts = [(split, splits[split]) for split in Split if splits.get(split, 0) > 0]
    for split, share in parts:
        reached += share
        if point < reached:
            return split
    return parts[-1][0]


def build(
    database: Database,
    blobs: BlobStore,
    policy: Policy,
    request: DatasetRequest,
    *,
    prompt: Prompt | None,
    code_commit: str | None,
    now: float,
    key_id: str | None = None,
    approved: bool = True,
) -> Dataset:
    """Freeze a dataset: select, join, reduce, split, store its rows as a blob and one file per split. Blocking.

    The policy says whose feedback counts for what others asked.
    Equal records and request give an equal `sha256`. Raises InvalidRequest when nothing is left or cannot be rendered.
    """
    check_splits(request.splits)
    if request.limit is not None and request.limit < 1:
        raise InvalidRequest(f"`limit` must be at least 1, not {request.limit}; leave it out for all.", param="limit")
    selected = _select(database, request)
    said = _feedback(database, policy, selected.rows)
    known = authors(judgements(selected.rows, said, request.metric))
    about = {name: weighed(rows, known) for name, rows in said.items()}
    queried = wanted(database)
    examples = _usable(selected, _examples(selected, about, request, queried), request, prompt)
    if not examples and selected.quarantine:
        raise InvalidRequest(
            f"No inference can be a row of the dataset {request.name!r}: {next(iter(selected.quarantine.values()))}",
            param="prompt",
        )
    if not examples:
        raise InvalidRequest(
            f"No inference is left for the dataset {request.name!r} (left out: {dict(selected.excluded)}); send "
            "feedback, or widen route, since, until and tags.",
            param="route",
        )
    provenance = _provenance(request, selected, about, examples, code_commit) | {
        "built_by": key_id,
        "authors": _shown(known),
    }
    content = _content(request, examples, prompt)
    return freeze(
        database, blobs, request.name, examples, content, provenance, now=now, key_id=key_id, approved=approved
    )


def freeze(
    database: Database,
    blobs: BlobStore,
    name: str,
    examples: Sequence[Example],
    content: Mapping[Split, bytes],
    provenance: JSON,
    *,
    now: float,
    key_id: str | None,
    approved: bool,
) -> Dataset:
    """Store examples as a dataset, and the `content` of each split as a training file."""
    rows = b"".join(canonical_json(example) + b"\n" for example in examples)
    written = {
        split.value: FileRow(
            id=new_id("file"),
            sha256=blobs.put(lines),
            bytes=len(lines),
            created_at=now,
            filename=f"{name}-{split.value}.jsonl",
            purpose="fine-tune",
            key_id=key_id,
        )
        for split, lines in content.items()
    }
    dataset = Dataset(
        id=new_id("ds"),
        name=name,
        sha256=blobs.put(rows),
        created_at=now,
        counts={split.value: sum(example.split is split for example in examples) for split in Split},
        provenance=provenance,
        files={split: file.id for split, file in written.items()},
        approved=approved,
    )
    with database.transaction():
        for file in written.values():
            files.insert(database, file)
        datasets.insert(database, dataset)
        audit.append(database, key_id or audit.SYSTEM, "dataset.created", dataset.id, {"name": dataset.name})
    for lines in (rows, *content.values()):
        if not blobs.exists(sha256_hex(lines)):  # an equal one was being deleted
            blobs.put(lines)
    return dataset


def load(blobs: BlobStore, dataset: Dataset, split: Split | None = None) -> tuple[Example, ...]:
    """Return a dataset's rows, or those of one split, in their frozen order."""
    decode = msgspec.json.Decoder(Example).decode
    rows = (decode(line) for line in blobs.read(dataset.sha256).splitlines())
    return tuple(row for row in rows if split is None or row.split is split)


def _select(database: Database, request: DatasetRequest) -> _Selected:
    found = inferences.find(
        database, route=request.route, since=request.since, until=request.until, limit=request.limit
    )
    excluded: Counter[str] = Counter()
    rows: list[Inference] = []
    for row in found:
        if row.error is None and not _is_text(row):
            excluded["not_text"] += 1
        elif row.error is not None or row.output is None:
            excluded["failed"] += 1
        elif row.made_by_bessemer and not request.include_evaluations:
            excluded["made_by_bessemer"] += 1
        elif not row.has_tags(request.tags):
            excluded["other_tags"] += 1
        else:
            rows.append(row)
    return _Selected(sorted(rows, key=lambda row: row.id), excluded, {})


def _is_text(row: Inference) -> bool:
    """Whether text was asked and answered, no tool called and no picture shown: nothing else is learned yet."""
    said = row.messages
    if row.tool_calls or any("tool_calls" in message or "tool_call_id" in message for message in said):
        return False
    parts = (part for message in said if isinstance(message.get("content"), list) for part in message["content"])
    return all(part.get("type") == "text" for part in parts)


def _feedback(database: Database, policy: Policy, rows: Sequence[Inference]) -> dict[str, list[Feedback]]:
    """Return the feedback of each inference that counts, that of its episode included."""
    own = feedback.for_inferences(database, [row.id for row in rows])
    episodes = feedback.for_episodes(database, sorted({row.episode_id for row in rows if row.episode_id is not None}))
    said = {row.id: [*own.get(row.id, ()), *episodes.get(row.episode_id or "", ())] for row in rows}
    return admissible(database, policy, rows, said)


def wanted(database: Database) -> frozenset[str]:
    """Return the inferences that somebody was given a list of, to judge them because that teaches much."""
    events = audit.find(database, action=WANTED, limit=None)
    return frozenset(name for one in events for name in one.detail.get("inferences", ()))


def _asked(group: Sequence[Inference], queried: Container[str]) -> Asked | None:
    """Return why feedback on an input was asked for: what was learned of one of its inferences counts for all."""
    drawn = next((one.asked for one in group if one.asked is not None), None)
    return drawn or (Asked(Stream.QUERY, 1.0) if any(one.id in queried for one in group) else None)


def _examples(
    selected: _Selected,
    about: Mapping[str, Sequence[Feedback]],
    request: DatasetRequest,
    queried: Container[str],
) -> list[Example]:
    groups: dict[str, list[Inference]] = {}
    for row in selected.rows:
        # Rows of an older version are hashed anew: one input in two spellings is one input.
        key = row.input_sha256 if row.hash_version == HASH_VERSION else input_hash(row.input, row.messages)
        if _split_named(selected, row, request.split_tag):
            groups.setdefault(key, []).append(row)
    examples: list[Example] = []
    for input_sha256, group in groups.items():
        split = _given(group, request.split_tag) or split_of(input_sha256, request.salt, request.splits)
        reduced = learn(group, about, metric=request.metric, as_one=request.deduplicate)
        selected.excluded["same_input"] += len(group) - len(reduced)
        for learned in reduced:
            if learned.empty and request.require_feedback:
                selected.excluded["no_feedback"] += 1
            else:
                example = _example(learned, split, alone=len(group) == 1)
                examples.append(msgspec.structs.replace(example, asked=_asked(group, queried)))
    return sorted(examples, key=lambda example: example.id)


def _split_named(selected: _Selected, row: Inference, tag: str | None) -> bool:
    """Whether the row's split tag, if it has one, names a split; a row whose tag does not is set aside."""
    value = None if tag is None else row.tags.get(tag)
    if value is None or value in list(Split):
        return True
    selected.set_aside(row.id, f"the tag {tag} is {value[:64]!r}; splits are {', '.join(Split)}.")
    return False


def _given(group: Sequence[Inference], tag: str | None) -> Split | None:
    """Return the split that was given to an input, not computed."""
    tags = {Split(row.tags[tag]) for row in group if tag is not None and tag in row.tags}
    named = tags | {row.split for row in group if row.split is not None}
    # When one input is given two, the split that must not leak into training wins.
    return next((split for split in _STRICTEST_FIRST if split in named), None)


def _usable(
    selected: _Selected, examples: Sequence[Example], request: DatasetRequest, prompt: Prompt | None
) -> list[Example]:
    """Return the examples of which a training row can be made; the others are set aside, each with its reason."""
    kept = []
    for example in examples:
        try:
            row = training_row(example, prompt, supervised=request.supervised)
            if row is not None:
                check_row(row, DEMONSTRATION if request.supervised else QUESTION)
        except InvalidRequest as error:
            selected.set_aside(example.id, error.message)
        else:
            kept.append(example)
    return kept


def _example(row: JoinedFeedback, split: Split, *, alone: bool) -> Example:
    """Return a row. `alone`: its input was asked once, so that its propensity is that of what is known of it."""
    return Example(
        id=row.inference.id,
        split=split,
        input=row.inference.input,
        messages=row.inference.messages,
        answer=row.inference.output,
        verdict=row.verdict,
        demonstration=row.demonstration,
        scores=row.scores,
        weight=row.weight,
        version=row.inference.version,
        propensity=row.inference.propensity if alone else None,
    )


def _content(request: DatasetRequest, examples: Sequence[Example], prompt: Prompt | None) -> dict[Split, bytes]:
    """Return the training file of each split that has rows."""
    content = {}
    for split in Split:
        rows = [
            training_row(example, prompt, supervised=request.supervised)
            for example in examples
            if example.split is split
        ]
        lines = b"".join(canonical_json(row) + b"\n" for row in rows if row is not None)
        if lines:
            content[split] = lines
    return content


def training_row(example: Example, prompt: Prompt | None, *, supervised: bool) -> JSON | None:
    """Return an example as a line of a training file: OpenAI's `messages`, and beside them what graders read.

    `supervised` appends the right answer (the demonstration, else an answer judged right) as the assistant's message;
    None when there is no right answer. Raises InvalidRequest when there are no messages and no prompt to make them.
    """
    messages = _messages(example, prompt)
    if supervised:
        right = (
            example.demonstration if example.demonstration is not None else example.answer if example.verdict else None
        )
        if right is None:
            return None
        # What a model said earlier in the conversation was not judged: it is read, and not taught.
        earlier = [{**one, "weight": 0} if one.get("role") == "assistant" else one for one in messages]
        messages = [*earlier, {"role": "assistant", "content": right}]
    return {
        "messages": messages,
        "input": example.input,
        "answer": example.answer,
        "verdict": example.verdict,
        "demonstration": example.demonstration,
        "scores": example.scores,
        "id": example.id,
        "weight": example.weight,
    }


def _messages(example: Example, prompt: Prompt | None) -> list[JSON]:
    if prompt is not None and example.input is not None:
        return list(render_messages(prompt, example.input))
    if not example.messages:
        raise InvalidRequest(
            "The inferences hold structured input alone; name the prompt that renders it.", param="prompt"
        )
    return canonical_messages(example.messages)


def _provenance(
    request: DatasetRequest,
    selected: _Selected,
    about: Mapping[str, Sequence[Feedback]],
    examples: Sequence[Example],
    code_commit: str | None,
) -> JSON:
    given = {row.id: row for rows in about.values() for row in rows}.values()
    times = [row.created_at for row in selected.rows]
    return {
        "route": request.route,
        "request": as_json(request),
        "inferences": len(selected.rows),
        "excluded": dict(sorted(selected.excluded.items())),
        "quarantined": dict(list(selected.quarantine.items())[:SHOWN]),
        "hash_version": HASH_VERSION,
        "first_inference_at": min(times, default=None),
        "last_inference_at": max(times, default=None),
        "versions": dict(sorted(Counter(example.version or "" for example in examples).items())),
        "feedback": dict(sorted(Counter(row.kind.value for row in given).items())),
        "sources": dict(sorted(Counter(row.source.value for row in given).items())),
        "bessemer": __version__,
        "code_commit": code_commit,
    }
