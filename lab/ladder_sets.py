"""Data sets of `ladder.py` in four forms, each told by what is in the file: no set is known by name.

- record pairs and prompt pairs, as `tasks.py` reads them (the file holds `label`, or `prompt` and `completion`);
- labelled texts: CSV with a header, or JSON Lines; the column with the fewest different values is the label; or one
  JSON object whose parts are lists of `[text, label]`, as in `{"train": [...], "test": [...]}`;
- choices: `{"question": [[messages]], "function": [...]}` with a file of accepted calls beside it: which of the row's
  own functions is called? Each function is a pair with the question;
- the demo's generator of offers, by seed.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bessemer.core.content import content_hash
from bessemer.core.errors import InvalidRequest
from bessemer.core.types import JSON
from bessemer.engine.rungs.rung import RungItem
from bessemer.ladder.lessons import Lesson
from lab.rows import read_rows
from lab.sealed import Seal, generate, open_file, sealed_sets, split_rows
from lab.tasks import YES, Kind, Labelled, load

_ACCEPTED = ".answers"
_OFFERS = 4000
_DEVELOPMENT = 0.25
"""Share of the groups of the training rows that stand in for the test in development."""


class LadderSet(NamedTuple):
    """One data set: lessons to learn from, lessons to score on."""

    name: str
    train: list[Lesson]
    test: list[Lesson]
    positive: str | None
    """The label whose F1 is the figure; None: accuracy is."""
    choices: bool = False
    """The items of one group are the offers of one question: right is the one with the highest probability of Yes."""


def pairs(name: str, train: Path, test: Path | None, fields: str) -> LadderSet:
    """Return a set of pairs; `test`: None in development. Raises InvalidRequest."""
    open_file(train, Seal.DEVELOPMENT)
    if test is not None:
        open_file(test, Seal.FINAL)
    task = load(name, train, test or train, fields=fields)
    if task.kind is not Kind.MATCHING:
        raise InvalidRequest(f"{train.name} asks for attributes: no rung learns these.", param="train")
    return LadderSet(name, [_pair(row) for row in task.train], [_pair(row) for row in task.test] if test else [], YES)


def _pair(row: Labelled) -> Lesson:
    sides = {side: row.item.input[side] for side in ("left", "right")}
    return Lesson(RungItem(input=sides), row.answer)


def offers(name: str, seed: int, seal: Seal) -> LadderSet:
    """Return the generator's offers of a seed, with its sealed ones for the final scoring."""
    train = [Lesson(RungItem(input=pair.input), pair.answer) for pair in generate(_OFFERS, seed, Seal.DEVELOPMENT)]
    final = generate(1, sealed_sets().generated.seed, Seal.FINAL) if seal is Seal.FINAL else ()
    return LadderSet(name, train, [Lesson(RungItem(input=pair.input), pair.answer) for pair in final], YES)


def texts(name: str, train: Path, test: Path | None) -> LadderSet:
    """Return a set of labelled texts. Raises InvalidRequest naming the file."""
    open_file(train, Seal.DEVELOPMENT)
    if test is not None:
        open_file(test, Seal.FINAL)
    columns = _columns(_table(train, "train"))
    learned = _lessons(_table(train, "train"), columns)
    return LadderSet(name, learned, _lessons(_table(test, "test"), columns) if test else [], None)


def _table(path: Path, part: str) -> list[JSON]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return list(csv.DictReader(lines))
    if path.suffix == ".json":
        document = json.loads(path.read_text())
        rows = document.get(part) if isinstance(document, dict) else document
        if not isinstance(rows, list) or not rows:
            raise InvalidRequest(f"{path.name} has no list {part!r}.", param="path")
        return [row if isinstance(row, dict) else {"text": row[0], "label": row[1]} for row in rows]
    return read_rows(path)


def _columns(rows: Sequence[JSON]) -> tuple[list[str], str]:
    """Return the columns of text and the one of labels."""
    names = [name for name in rows[0] if all(isinstance(row.get(name), str) for row in rows)]
    if len(names) < 2:
        raise InvalidRequest("Labelled texts need a column of text and one of labels.", param="path")
    label = min(names, key=lambda name: len({row[name] for row in rows}))
    return [name for name in names if name != label], label


def _lessons(rows: Sequence[JSON], columns: tuple[list[str], str]) -> list[Lesson]:
    names, label = columns
    return [Lesson(RungItem("\n".join(row[name] for name in names)), row[label]) for row in rows]


def calls(name: str, path: Path, seal: Seal) -> LadderSet:
    """Return choices among each row's own functions; the held-out rows are the final scoring's."""
    answers = {row["id"]: row for row in read_rows(path.with_suffix(f"{_ACCEPTED}{path.suffix}"))}
    train = [one for row in split_rows(path, Seal.DEVELOPMENT) for one in _offered(row, answers)]
    test = [one for row in split_rows(path, Seal.FINAL) for one in _offered(row, answers)] if seal is Seal.FINAL else []
    return LadderSet(name, train, test, YES, choices=True)


def _offered(row: JSON, answers: dict[str, JSON]) -> list[Lesson]:
    question = "\n".join(message["content"] for message in row["question"][0])
    right = {name for call in answers[row["id"]]["ground_truth"] for name in call}
    group = content_hash(question)[:16]
    return [
        Lesson(
            RungItem(input={"left": {"text": question}, "right": {"text": _described(function)}}),
            YES if function["name"] in right else "No",
            group=group,
        )
        for function in row["function"]
    ]


def _described(function: JSON) -> str:
    parameters = function.get("parameters", {}).get("properties", {})
    told = "; ".join(f"{name} {value.get('description', '')}" for name, value in parameters.items())
    return f"{function['name']} {function.get('description', '')} {told}"


def read(name: str, train: Path, test: Path | None, fields: str = "all") -> LadderSet:
    """Return a set of whichever form its file has. Raises InvalidRequest."""
    if train.suffix in (".csv", ".json"):
        return texts(name, train, test)
    first = read_rows(train)[0]
    if (
        {"prompt", "completion"} <= first.keys()
        or any(key.endswith("_left") for key in first)
        or "target_scores" in first
    ):
        return pairs(name, train, test, fields)
    return texts(name, train, test)
