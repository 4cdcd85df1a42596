"""Loads labelled data sets and recorded answers from files in three formats; knows no data set by name.

Formats, JSON Lines, gzipped or not:
- record pairs: fields `NAME_left` / `NAME_right` and `label` (0 or 1), optionally `pair_id`;
- prompt pairs: `{"prompt": "... Entity 1: '...'. Entity 2: '...'.", "completion": "Yes" | "No"}`;
- attributes: `{"input": title, "category", "target_scores": {attribute: {value: 1}}}`;
- recorded answers: `{"prompt", "recorded_answer", "pair_id", "label"}`, or attribute rows with a `*_output` field.
The labels of a test file are returned apart from its inputs, so that only the final score can see them.
"""

import gzip
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from bessemer.core.content import content_hash
from bessemer.core.errors import InvalidRequest
from bessemer.core.template import MOST_MEMBERS
from bessemer.core.types import JSON, Frozen, Split

YES, NO = "Yes", "No"
NONE = "n/a"
_ENTITIES = re.compile(r"Entity 1: (.*?)\.? Entity 2: (.*?)\.?\s*$", re.DOTALL)
_HIDDEN = ("id", "cluster_id", "pair_id")


class Kind(StrEnum):
    """What a task asks for."""

    MATCHING = "matching"
    """Do two records mean the same thing? Yes or No."""
    ATTRIBUTES = "attributes"
    """The values of a title's attributes, as JSON."""
    WRITING = "writing"
    """Free text that a grader scores."""


class Item(Frozen, frozen=True):
    """One question: structured input and what identifies it in a file of recorded answers."""

    id: str
    input: JSON


class Labelled(Frozen, frozen=True):
    """An item and its answer: `Yes` / `No`, or JSON text of the attributes' values (`n/a` where there is none)."""

    item: Item
    answer: str
    target: JSON | None = None
    """attributes: the annotated values, `{attribute: [value, ...]}`; an empty list means none."""


class Recorded(Frozen, frozen=True):
    """A file of a large model's answers and how to ask it."""

    path: Path
    prompt: str
    """Template that renders an item's input to exactly the prompt that was recorded, when `prompt_field` is set."""
    prompt_field: str | None
    """None: how the recorded prompts were made is not known; answers are found by their key alone."""
    answer_field: str
    key_field: str | None
    answers: dict[str, str]
    """Answer by item id."""


class Task(Frozen, frozen=True):
    """One data set, ready for the loop."""

    name: str
    kind: Kind
    train: tuple[Labelled, ...]
    test: tuple[Labelled, ...]
    prompt: str
    """User prompt of the small model."""
    recorded: Recorded | None


def read_rows(path: Path) -> list[JSON]:
    """Read JSON Lines, gzipped when the name ends in .gz. Raises InvalidRequest naming the line."""
    opener = gzip.open if path.suffix == ".gz" else open
    rows: list[JSON] = []
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    rows.append(_decode(line, path, number))
    except OSError as error:
        raise InvalidRequest(f"{str(path)!r} cannot be read: {error}.", param="path") from error
    if not rows:
        raise InvalidRequest(f"{str(path)!r} holds no rows.", param="path")
    return rows


def _decode(line: str, path: Path, number: int) -> JSON:
    try:
        row = json.loads(line)  # unlike strict JSON, such files may hold NaN
        if isinstance(row, dict):
            return row
        raise ValueError("it is something else")
    except ValueError as error:
        raise InvalidRequest(f"{path.name} line {number} is not a JSON object: {error}.", param="path") from error


def load(
    name: str, train_path: Path, test_path: Path, recorded_path: Path | None = None, *, fields: str = "all"
) -> Task:
    """Load a task of any of the formats.

    `fields`: `all` gives every field that both files have to the small model, `titles` the first field alone.
    """
    train_rows, test_rows = read_rows(train_path), read_rows(test_path)
    if "target_scores" in train_rows[0]:
        return _attributes_task(name, train_rows, test_rows, recorded_path)
    train, test = _pairs(train_rows, train_path), _pairs(test_rows, test_path)
    names = [f for f in train[0].item.input["left"] if f in test[0].item.input["left"]]
    if not names:
        raise InvalidRequest(f"{train_path.name} and {test_path.name} have no field in common.", param="path")
    names = names[:1] if fields == "titles" else names
    recorded = _recorded_pairs(recorded_path, test) if recorded_path else None
    return Task(
        name=name,
        kind=Kind.MATCHING,
        train=tuple(_unique(_project(pair, names) for pair in train)),
        test=tuple(test) if recorded else tuple(_project(pair, names) for pair in test),
        prompt=matching_prompt(names),
        recorded=recorded,
    )


def matching_prompt(names: Sequence[str]) -> str:
    """Return the small model's prompt for records with these fields.

    First the words that both records share, then those of one record alone, field after field: a causal model need not
    remember the first record while it reads the second, and shared words are read once.
    """
    common, left, right = (" ".join(_compared(side, names)) for side in ("common", "left", "right"))
    return f"{common}\n- {left}\n+ {right}\nSame?"


def _compared(what: str, names: Sequence[str]) -> list[str]:
    call = {
        "common": "common(input.left.{0}, input.right.{0})",
        "left": "only(input.left.{0}, input.right.{0})",
        "right": "only(input.right.{0}, input.left.{0})",
    }[what]
    return ["{{" + call.format(name) + "}}" for name in names]


def _pairs(rows: list[JSON], path: Path) -> list[Labelled]:
    if "prompt" in rows[0] and "completion" in rows[0]:
        return [_prompt_pair(row, path) for row in rows]
    names = [key.removesuffix("_left") for key in rows[0] if key.endswith("_left")]
    names = [field for field in names if field not in _HIDDEN and f"{field}_right" in rows[0]]
    if not names or "label" not in rows[0]:
        raise InvalidRequest(
            f"{path.name} holds neither NAME_left/NAME_right/label, prompt/completion nor target_scores rows.",
            param="path",
        )
    return [_record_pair(row, names) for row in rows]


def _record_pair(row: JSON, names: list[str]) -> Labelled:
    record = {side: {field: _text(row.get(f"{field}_{side}")) for field in names} for side in ("left", "right")}
    key = str(row.get("pair_id") or content_hash(record)[:16])
    item = Item(id=key, input=record | {"id": key} if "pair_id" in row else record)
    return Labelled(item=item, answer=YES if int(row["label"]) else NO)


def _prompt_pair(row: JSON, path: Path) -> Labelled:
    found = _ENTITIES.search(row["prompt"])
    if found is None:
        raise InvalidRequest(
            f"{path.name}: a prompt does not end in 'Entity 1: ... Entity 2: ...': {row['prompt'][-80:]!r}.",
            param="path",
        )
    left, right = (_unquote(text) for text in found.groups())
    record = {"left": {"title": left}, "right": {"title": right}}
    answer = YES if str(row["completion"]).strip().lower().startswith("yes") else NO
    return Labelled(item=Item(id=content_hash(record)[:16], input=record), answer=answer)


def _unquote(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == "'" else text


def _text(value: object) -> str:
    """Return a field as text: missing is empty, a whole float loses its `.0` (1986.0 and 1986 are the same year)."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _project(pair: Labelled, names: list[str]) -> Labelled:
    """Keep these fields of both records."""
    record = {side: {field: pair.item.input[side][field] for field in names} for side in ("left", "right")}
    return msgspec.structs.replace(pair, item=Item(id=pair.item.id, input=record))


def _unique(pairs: Iterable[Labelled]) -> list[Labelled]:
    """Drop repeated inputs, so that no split by hash can hold one question twice."""
    return list({content_hash(pair.item.input): pair for pair in pairs}.values())


# -- recorded answers -------------------------------------------------------------------------------------------------


def _recorded_pairs(path: Path, test: list[Labelled]) -> Recorded:
    rows = read_rows(path)
    by_id = {pair.item.id: pair.item.input for pair in test}
    keyed = [(by_id[row["pair_id"]], row["prompt"]) for row in rows if row.get("pair_id") in by_id]
    if not keyed:
        raise InvalidRequest(f"{path.name} shares no pair_id with the test file.", param="recorded")
    template = infer_template(keyed)
    return Recorded(
        path=path,
        prompt=template or matching_prompt(list(keyed[0][0]["left"])),
        prompt_field="prompt" if template else None,
        answer_field="recorded_answer",
        key_field="pair_id",
        answers={row["pair_id"]: row["recorded_answer"] for row in rows if row.get("pair_id") in by_id},
    )


def infer_template(examples: Sequence[tuple[JSON, str]]) -> str | None:
    """Find the template that renders each record pair to its prompt, by trying one field after the other.

    None when no template explains at least 99 in 100 of the examples.
    """
    record, _ = examples[0]
    for field in record["left"]:
        for sample, prompt in examples[:20]:
            template = _template_of(sample, prompt, field)
            if template and _explained(template, field, examples) >= 0.99:
                return template
    return None


def _template_of(record: JSON, prompt: str, field: str) -> str | None:
    left, right = record["left"][field], record["right"][field]
    start, end = prompt.find(left), prompt.rfind(right)
    if not left or not right or start < 0 or end < start + len(left):
        return None
    between = prompt[start + len(left) : end]
    return f"{prompt[:start]}{{{{input.left.{field}}}}}{between}{{{{input.right.{field}}}}}{prompt[end + len(right) :]}"


def _explained(template: str, field: str, examples: Sequence[tuple[JSON, str]]) -> float:
    head, rest = template.split(f"{{{{input.left.{field}}}}}")
    middle, tail = rest.split(f"{{{{input.right.{field}}}}}")
    made = (head + r["left"][field] + middle + r["right"][field] + tail == prompt for r, prompt in examples)
    return float(sum(made)) / len(examples)


# -- attributes -------------------------------------------------------------------------------------------------------


def _attributes_task(name: str, train_rows: list[JSON], test_rows: list[JSON], recorded_path: Path | None) -> Task:
    known = known_attributes(train_rows)
    recorded = None
    if recorded_path:
        rows = read_rows(recorded_path)
        field = next((key for key in rows[0] if key == "recorded_answer" or key.endswith("_output")), None)
        if field is None:
            raise InvalidRequest(
                f"{recorded_path.name} has neither 'recorded_answer' nor a field that ends in '_output'.",
                param="recorded",
            )
        recorded = Recorded(
            path=recorded_path,
            prompt="{{input.title}}",
            prompt_field="input",
            answer_field=field,
            key_field=None,
            answers={_title_id(row): row[field] for row in rows},
        )
    return Task(
        name=name,
        kind=Kind.ATTRIBUTES,
        train=tuple(_unique(_title(row, known) for row in train_rows)),
        test=tuple(_title(row, known) for row in test_rows),
        prompt="{{input.category}}: {{input.title}}\nJSON:",
        recorded=recorded,
    )


def known_attributes(rows: Sequence[JSON]) -> dict[str, tuple[str, ...]]:
    """Return the attributes that each category's rows carry, the most frequent first; under "" those of all."""
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        for category in {"", str(row.get("category", ""))}:
            of_category = counts.setdefault(category, {})
            for attribute in row["target_scores"]:
                of_category[attribute] = of_category.get(attribute, 0) + 1
    return {category: tuple(sorted(seen, key=lambda a: (-seen[a], a))) for category, seen in counts.items()}


def _title_id(row: JSON) -> str:
    return content_hash([row["input"], row.get("category", "")])[:16]


def json_escape(text: str) -> str:
    """Return a text as it stands inside a JSON string: the grammar lets values be spans of this form."""
    return msgspec.json.encode(text).decode()[1:-1]


GRAMMAR = (
    "start: object\n"
    "{{object(input.attributes)}}"
    'value: "\\"" span "\\""\n'
    'span: %regex {"substring_words": "{{input.escaped}}"}\n'
)
"""Lark grammar (llguidance) of a JSON object: the attributes of the category, each once; values are title spans."""


def _title(row: JSON, known: Mapping[str, Sequence[str]]) -> Labelled:
    """Return a title with its answer: the annotated values as JSON, in the order in which the title has them.

    The input names the attributes that its category has; of an unknown category, all; the most frequent that a grammar
    can count off.
    """
    category = str(row.get("category", ""))
    target = {attribute: [v for v in values if v != NONE] for attribute, values in row["target_scores"].items()}
    values = {attribute: found[0] for attribute, found in target.items() if found}
    ordered = dict(sorted(values.items(), key=lambda pair: row["input"].find(pair[1])))
    attributes = (known.get(category) or known[""])[:MOST_MEMBERS]
    record: JSON = {
        "title": row["input"],
        "category": category,
        "attributes": list(attributes),
        "escaped": json_escape(row["input"]),
    }
    answer = msgspec.json.encode(ordered).decode()
    return Labelled(item=Item(id=_title_id(row), input=record), answer=answer, target=target)


# -- splits -----------------------------------------------------------------------------------------------------------


def place(labelled: Labelled, salt: str) -> float:
    """Return where in [0, 1) the hash of an item's input puts it."""
    return float(int(content_hash([salt, labelled.item.input])[:12], 16)) / float(1 << 48)


def split_of(labelled: Labelled, salt: str, shares: Mapping[Split, float]) -> Split:
    """Put a training item into a split by the hash of its input: stable and without overlap; what is left is train."""
    here, edge = place(labelled, salt), 0.0
    for split, share in shares.items():
        edge += share
        if here < edge:
            return split
    return Split.TRAIN
