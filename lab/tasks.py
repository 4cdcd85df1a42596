"""Loads labelled data sets and recorded answers from files in three formats; knows no data set by name.

Formats, JSON Lines, gzipped or not:
- record pairs: fields `NAME_left` / `NAME_right` and `label` (0 or 1), optionally `pair_id`;
- prompt pairs: `{"prompt": "... Entity 1: '...'. Entity 2: '...'.", "completion": "Yes" | "No"}`, any word for Entity;
- attributes: `{"input": title, "category", "target_scores": {attribute: {value: 1}}}`;
- recorded answers: `{"prompt", "recorded_answer", "pair_id", "label"}`, or attribute rows with a `*_output` field.
The labels of a test file are returned apart from its inputs, so that only the final score can see them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from bessemer.core.content import content_hash
from bessemer.core.datasets import Split
from bessemer.core.errors import InvalidRequest
from bessemer.core.template import MOST_MEMBERS, placeholders
from bessemer.core.types import JSON, Frozen
from bessemer.evals.truth import parse_label
from bessemer.tuning.mentions import stands_in
from lab.fitting import cut_text, fitted
from lab.rows import made_of, read_rows, string

YES, NO = "Yes", "No"
NONE = "n/a"
_ENTITIES = re.compile(r"\b(\w+) (?:1|A): (.*?)\.?\s+\1 (?:2|B): (.*?)\.?\s*$", re.DOTALL)
_HIDDEN = ("id", "cluster_id", "pair_id")
_TITLES = ("title", "name")
MOST_TOKENS = 900
"""Of a record, by a cautious estimate: two of them leave room in a context of 2,048."""
MOST_TITLE_TOKENS = 600
"""Of a title whose attributes are asked for: the answer repeats a part of it."""


class Kind(StrEnum):
    """What a task asks for."""

    MATCHING = "matching"
    """Do two records mean the same thing? Yes or No."""
    ATTRIBUTES = "attributes"
    """The values of a title's attributes, as JSON."""
    WRITING = "writing"
    """Free text that a grader scores."""


class TaskItem(Frozen, frozen=True):
    """One question: structured input and what identifies it in a file of recorded answers."""

    id: str
    input: JSON


class Labelled(Frozen, frozen=True):
    """An item and its answer: `Yes` / `No`, or JSON text of the attributes' values (`n/a` where there is none)."""

    item: TaskItem
    answer: str
    target: JSON | None = None
    """attributes: the annotated values, `{attribute: [value, ...]}`; an empty list means none."""


class RecordedAnswers(Frozen, frozen=True):
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


class LabelledTask(Frozen, frozen=True):
    """One data set, ready for the loop."""

    name: str
    kind: Kind
    train: tuple[Labelled, ...]
    test: tuple[Labelled, ...]
    prompt: str
    """User prompt of the small model."""
    recorded: RecordedAnswers | None


def load(
    name: str, train_path: Path, test_path: Path, recorded_path: Path | None = None, *, fields: str = "all"
) -> LabelledTask:
    """Load a task of any of the formats.

    `fields`: `all` gives every field that both files have to the small model, `titles` the title alone: the field that
    the recorded model saw; else one named title or name, or the first.
    """
    train_rows, test_rows = read_rows(train_path), read_rows(test_path)
    if "target_scores" in train_rows[0]:
        return _attributes_task(name, (train_rows, train_path), (test_rows, test_path), recorded_path)
    train, test = _pairs(train_rows, train_path), _pairs(test_rows, test_path)
    names = [f for f in train[0].item.input["left"] if f in test[0].item.input["left"]]
    if not names:
        raise InvalidRequest(f"{train_path.name} and {test_path.name} have no field in common.", param="path")
    recorded = _recorded_pairs(recorded_path, test) if recorded_path else None
    if fields == "titles":
        names = [_title_field(names, recorded)]
    as_recorded = fields == "titles" and recorded is not None and recorded.prompt_field is not None
    prompt = recorded.prompt if recorded is not None and as_recorded else matching_prompt(names)
    if recorded is not None:
        recorded, test = _with_whole_texts(recorded, test, names)
    else:
        test = [_project(pair, names) for pair in test]
    return LabelledTask(
        name=name,
        kind=Kind.MATCHING,
        train=tuple(_unique(_project(pair, names) for pair in train)),
        test=tuple(test),
        prompt=prompt,
        recorded=recorded,
    )


def _title_field(names: Sequence[str], recorded: RecordedAnswers | None) -> str:
    shown = (
        [path.split(".")[-1] for path in placeholders(recorded.prompt)] if recorded and recorded.prompt_field else []
    )
    return next((name for name in (*shown, *_TITLES) if name in names), names[0])


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
        return _prompt_pairs(rows, path)
    keys = dict.fromkeys(key for row in rows for key in row)
    names = [key.removesuffix("_left") for key in keys if key.endswith("_left")]
    names = [field for field in names if field not in _HIDDEN and f"{field}_right" in keys]
    if not names or "label" not in keys:
        raise InvalidRequest(
            f"{path.name} holds neither NAME_left/NAME_right/label, prompt/completion nor target_scores rows.",
            param="path",
        )
    return made_of(rows, path, lambda row: _record_pair(row, names))


def _record_pair(row: JSON, names: list[str]) -> Labelled:
    record = {
        side: {_NO_NAME.sub("_", field): _text(row.get(f"{field}_{side}")) for field in names}
        for side in ("left", "right")
    }
    given = row.get("pair_id")
    key = content_hash(record)[:16] if given is None else str(given)
    item = TaskItem(id=key, input=record if given is None else record | {"id": key})
    return Labelled(item=item, answer=YES if _is_match(row.get("label")) else NO)


_NO_NAME = re.compile(r"[^\w-]")
"""What the name of a field in a template cannot hold."""
_LABELS = {"1": True, "1.0": True, "true": True, "yes": True, "0": False, "0.0": False, "false": False, "no": False}


def _is_match(value: object) -> bool:
    said = _LABELS.get(str(value).strip().lower())
    if said is None:
        raise InvalidRequest(f"'label' must be 0 or 1, not {value!r}.", param="label")
    return said


def _prompt_pairs(rows: list[JSON], path: Path) -> list[Labelled]:
    records, answers = _records(rows, path), made_of(rows, path, _completion)
    return [
        Labelled(item=TaskItem(id=_pair_id(record), input=record), answer=answer)
        for record, answer in zip(records, answers, strict=True)
    ]


def _records(rows: Sequence[JSON], path: Path) -> list[JSON]:
    """Return the two records that each prompt asks about, without the question that all of them end in."""
    found = made_of(rows, path, lambda row: _entities(string(row, "prompt")))
    after = len(_question_after([right for _, right in found]))
    return [_titles(left, right[: len(right) - after]) for left, right in found]


def _pair_id(record: JSON) -> str:
    return content_hash(record)[:16]


def _entities(prompt: str) -> tuple[str, str]:
    found = _ENTITIES.search(prompt)
    if found is None:
        raise InvalidRequest(
            f"a prompt does not end in 'Entity 1: ... Entity 2: ...': {prompt[-80:]!r}.", param="prompt"
        )
    return found[2], found[3]


def _titles(left: str, right: str) -> JSON:
    return {"left": {"title": _unquote(left)}, "right": {"title": _unquote(right)}}


def _question_after(texts: Sequence[str]) -> str:
    """Return what follows the second record in every prompt alike: a question, from the end of a sentence on."""
    if len(set(texts)) < 2:
        return ""
    first, last = (extreme(text[::-1] for text in texts) for extreme in (min, max))
    alike = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    shared = first[:alike][::-1]
    found = re.search(r"\.?\s*\n|[.?!]\s", shared)
    return shared[found.start() :] if found else ""


def _completion(row: JSON) -> str:
    said = row.get("completion")
    label = parse_label(said, (YES, NO)) if isinstance(said, str) else None
    if label is None:
        raise InvalidRequest(f"'completion' must be Yes or No, not {said!r}.", param="completion")
    return label


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
    """Keep these fields of both records, as much of them as the small model can read."""
    record = {
        side: fitted({field: pair.item.input[side][field] for field in names}, MOST_TOKENS)
        for side in ("left", "right")
    }
    return msgspec.structs.replace(pair, item=TaskItem(id=pair.item.id, input=record))


def _unique(pairs: Iterable[Labelled]) -> list[Labelled]:
    """Drop repeated inputs, so that no split by hash can hold one question twice."""
    return list({content_hash(pair.item.input): pair for pair in pairs}.values())


# -- recorded answers -------------------------------------------------------------------------------------------------


class _Said(Frozen, frozen=True):
    id: str
    prompt: str
    answer: str


def _recorded_pairs(path: Path, test: list[Labelled]) -> RecordedAnswers:
    by_id = {pair.item.id: pair.item.input for pair in test}
    rows = read_rows(path)
    keyed = all(row.get("pair_id") is not None for row in rows)
    rows = [row for row in rows if row.get("recorded_answer", "") is not None]
    said = [one for one in _said_of_pairs(rows, path, keyed=keyed) if one.id in by_id]
    if not said:
        raise InvalidRequest(
            f"{path.name} shares no {'pair_id' if keyed else 'pair of records'} with the test file.", param="recorded"
        )
    template = infer_template([(by_id[one.id], one.prompt) for one in said])
    if template is None and not keyed:
        raise InvalidRequest(
            f"{path.name}: its prompts are not the test file's titles in one text; give a 'pair_id'.", param="pair_id"
        )
    if template is not None:
        field = placeholders(template)[0].split(".")[-1]
        said = [one for one in said if _filled(template, field, by_id[one.id]) == one.prompt]
    return RecordedAnswers(
        path=path,
        prompt=template or matching_prompt(list(by_id[said[0].id]["left"])),
        prompt_field="prompt" if template else None,
        answer_field="recorded_answer",
        key_field="pair_id" if keyed else None,
        answers=_told((one.id if keyed else one.prompt, one) for one in said),
    )


def _said_of_pairs(rows: Sequence[JSON], path: Path, *, keyed: bool) -> list[_Said]:
    ids = [str(row["pair_id"]) for row in rows] if keyed else [_pair_id(record) for record in _records(rows, path)]
    said = made_of(rows, path, lambda row: (string(row, "prompt"), _answer_text(row, "recorded_answer")))
    return [_Said(id=id, prompt=prompt, answer=answer) for id, (prompt, answer) in zip(ids, said, strict=True)]


def _answer_text(row: JSON, field: str) -> str:
    if field not in row:
        raise InvalidRequest(f"there is no {field!r}.", param=field)
    return row[field] if isinstance(row[field], str) else msgspec.json.encode(row[field]).decode()


def _told(said: Iterable[tuple[str, _Said]]) -> dict[str, str]:
    """Return answers by item id, without those whose look-up leads to several different answers: none is served."""
    found: dict[str, list[_Said]] = {}
    for key, one in said:
        found.setdefault(key, []).append(one)
    clear = (same for same in found.values() if len({one.answer for one in same}) == 1)
    return {one.id: one.answer for same in clear for one in same}


def _with_whole_texts(
    recorded: RecordedAnswers, test: Sequence[Labelled], names: list[str]
) -> tuple[RecordedAnswers, list[Labelled]]:
    """Cut what the small model reads of the test's records; the recorded prompt is made of the whole texts."""
    cut: list[Labelled] = []
    for pair in test:
        whole = {side: pair.item.input[side] for side in ("left", "right")}
        short = {side: whole[side] | texts for side, texts in _project(pair, names).item.input.items()}
        cut.append(msgspec.structs.replace(pair, item=TaskItem(id=pair.item.id, input=pair.item.input | short)))
    if cut == list(test):
        return recorded, cut
    kept = [
        msgspec.structs.replace(
            pair, item=TaskItem(id=pair.item.id, input=pair.item.input | {"whole": whole.item.input})
        )
        for pair, whole in zip(cut, test, strict=True)
    ]
    prompt = recorded.prompt
    if recorded.prompt_field is not None:
        prompt = re.sub(r"\{\{input\.(?=left\.|right\.)", "{{input.whole.", prompt)
    return msgspec.structs.replace(recorded, prompt=prompt), kept


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
    made = (_filled(template, field, record) == prompt for record, prompt in examples)
    return float(sum(made)) / len(examples)


def _filled(template: str, field: str, record: JSON) -> str:
    head, rest = template.split(f"{{{{input.left.{field}}}}}")
    middle, tail = rest.split(f"{{{{input.right.{field}}}}}")
    return str(head + record["left"][field] + middle + record["right"][field] + tail)


# -- attributes -------------------------------------------------------------------------------------------------------


_Rows = tuple[list[JSON], Path]
"""A file's rows and where they come from."""


def _attributes_task(name: str, train: _Rows, test: _Rows, recorded_path: Path | None) -> LabelledTask:
    for rows, path in (train, test):
        made_of(rows, path, lambda row: (string(row, "input"), _targets(row)))
    known = known_attributes(train[0])
    if not known[""]:
        raise InvalidRequest(f"{train[1].name} annotates no attribute; give 'target_scores'.", param="target_scores")
    recorded = _recorded_titles(recorded_path, test[0]) if recorded_path else None
    tested = [_title(row, known) for row in test[0]]
    if recorded and any(pair.item.input["title"] != row["input"] for pair, row in zip(tested, test[0], strict=True)):
        recorded = msgspec.structs.replace(recorded, prompt="{{input.whole}}")
        tested = [
            msgspec.structs.replace(
                pair, item=TaskItem(id=pair.item.id, input=pair.item.input | {"whole": row["input"]})
            )
            for pair, row in zip(tested, test[0], strict=True)
        ]
    return LabelledTask(
        name=name,
        kind=Kind.ATTRIBUTES,
        train=tuple(_unique(_title(row, known) for row in train[0])),
        test=tuple(tested),
        prompt="{{input.category}}: {{input.title}}\nJSON:",
        recorded=recorded,
    )


def _recorded_titles(path: Path, test: Sequence[JSON]) -> RecordedAnswers:
    rows = read_rows(path)
    fields = (key for key in rows[0] if key == "recorded_answer" or key.endswith("_output"))
    field = next((key for key in fields if any(row.get(key) is not None for row in rows)), None)
    if field is None:
        raise InvalidRequest(
            f"{path.name} has neither 'recorded_answer' nor a field that ends in '_output'.", param="recorded"
        )

    def said_of(row: JSON) -> _Said:
        return _Said(id=_title_id(row), prompt=string(row, "input"), answer=_answer_text(row, field))

    said = made_of([row for row in rows if row.get(field, "") is not None], path, said_of)
    titles = {row["input"] for row in test}
    answers = _told((one.prompt, one) for one in said if one.prompt in titles)
    if not answers:
        raise InvalidRequest(f"{path.name} shares no 'input' with the test file.", param="recorded")
    return RecordedAnswers(
        path=path, prompt="{{input.title}}", prompt_field="input", answer_field=field, key_field=None, answers=answers
    )


def known_attributes(rows: Sequence[JSON]) -> dict[str, tuple[str, ...]]:
    """Return the attributes that each category's rows carry, the most frequent first; under "" those of all."""
    counts: dict[str, dict[str, int]] = {"": {}}
    for row in rows:
        for category in {"", _category(row)}:
            of_category = counts.setdefault(category, {})
            for attribute in row["target_scores"]:
                of_category[attribute] = of_category.get(attribute, 0) + 1
    return {category: tuple(sorted(seen, key=lambda a: (-seen[a], a))) for category, seen in counts.items()}


def _category(row: JSON) -> str:
    return str(row.get("category") or "")


def _targets(row: JSON) -> dict[str, list[str]]:
    """Return the accepted values of each annotated attribute; none where the annotation says that there is no value."""
    targets = row.get("target_scores")
    if not isinstance(targets, dict):
        raise InvalidRequest(
            f"'target_scores' must be attributes and their values, not {targets!r}.", param="target_scores"
        )
    return {attribute: _accepted(value) for attribute, value in targets.items()}


def _accepted(value: object) -> list[str]:
    if isinstance(value, dict):
        value = [text for text, score in value.items() if score != 0]
    options = value if isinstance(value, list) else [value]
    return [text for option in options if option is not None and (text := str(option)) not in ("", NONE)]


def _title_id(row: JSON) -> str:
    return content_hash(row["input"])[:16]


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
_MOST_UNWRITTEN = 256
"""Values beside spans; each makes the grammar larger."""


def grammar(train: Sequence[Labelled]) -> str:
    """Return the grammar that answers like those of a training file follow.

    Beside spans of the title's words it allows "n/a" where annotations say that there is no value, and the most
    frequent values that are no span ("Yes", a size in other units): what was seen once cannot be learned.
    """
    none = [NONE] if any([] in (row.target or {}).values() for row in train) else []
    unwritten = Counter(
        values[0]
        for row in train
        for values in (row.target or {}).values()
        if values and not stands_in(values[0], row.item.input["title"]) and not placeholders(values[0])
    )
    allowed = none + [value for value, count in unwritten.most_common(_MOST_UNWRITTEN) if count > 1]
    return GRAMMAR.replace('value: "', f'value: {"".join(f"{_quoted(_quoted(v))} | " for v in allowed)}"')


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _title(row: JSON, known: Mapping[str, Sequence[str]]) -> Labelled:
    """Return a title with its answer: the annotated values as JSON, in the order in which the title has them.

    Attributes that are annotated to have no value stand last, as "n/a": otherwise nobody who reads the answer, a grader
    say, knows that a value there is wrong.

    The input names the attributes that its category has; of an unknown category, all; the most frequent that a grammar
    can count off.
    """
    category, target = _category(row), _targets(row)
    values = {attribute: found[0] for attribute, found in target.items() if found}
    ordered = dict(sorted(values.items(), key=lambda pair: row["input"].find(pair[1])))
    ordered |= {attribute: NONE for attribute, found in target.items() if not found}
    attributes = (known.get(category) or known[""])[:MOST_MEMBERS]
    title = cut_text(row["input"], MOST_TITLE_TOKENS)
    record: JSON = {
        "title": title,
        "category": category,
        "attributes": list(attributes),
        "escaped": json_escape(title),
    }
    answer = msgspec.json.encode(ordered).decode()
    return Labelled(item=TaskItem(id=_title_id(row), input=record), answer=answer, target=target)


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
