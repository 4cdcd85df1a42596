"""Writes the trivial baseline into the results files: what answering without reading scores on the same test items.

python -m lab.trivial --root ../shared/data [--preset NAME]

Matching: every pair is a match. Attributes: each attribute's most frequent training value in the category. Writing: the
training demonstration that is met most often, whatever was asked.
"""

import argparse
import json
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from bessemer.cli.demo import measure
from bessemer.client.loop import failed
from lab.cases import TaskOptions, build
from lab.flywheel import HERE, load_task
from lab.provenance import commit
from lab.tasks import YES, Kind, LabelledTask, TaskItem

NAMES = {
    Kind.MATCHING: "trivial: always Yes",
    Kind.ATTRIBUTES: "trivial: most frequent values",
    Kind.WRITING: "trivial: one demonstration for all",
}


def main() -> int:
    """Score the baseline of each preset that has a results file, and merge its row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="../shared/data", help="folder that relative paths start from")
    parser.add_argument("--preset", action="append", help="a section of presets.toml; repeatable; default: all")
    arguments = parser.parse_args()
    sections = tomllib.loads((HERE / "presets.toml").read_text())
    for name in arguments.preset or sections:
        path = HERE / "results" / f"flywheel_{name}.json"
        options = msgspec.convert(sections[name], TaskOptions, strict=False)
        row = baseline(load_task(name, options, Path(arguments.root)), options)
        document = json.loads(path.read_text())
        kept = [one for one in document["rows"] if not one["name"].startswith("trivial")]
        document["rows"] = sorted([*kept, row], key=lambda one: (one["name"], one["seed"]))
        path.write_text(json.dumps(document, indent=1) + "\n")
        print(f"{name}: {row['name']} {row['f1']} {row['ci95']} on {row['n']:,}", flush=True)
    return 0


def baseline(task: LabelledTask, options: TaskOptions) -> dict[str, Any]:
    """Return the baseline's row, in the form of `flywheel.py`'s."""
    case = build(task, options, 0, None)
    say = constant(task)
    asked = {question.id: question for final in case.plan.finals for question in final.questions}
    answers = [
        msgspec.structs.replace(failed(name, ""), error=None, text=say(case.labelled[name].item), cost_usd=0.0)
        for name in sorted(asked)
    ]
    row = measure.system_row(NAMES[task.kind], answers, case.scorer(answers), seed=0)
    score = row.score
    return {
        "name": row.name,
        "model": None,
        "seed": 0,
        "f1": None if score is None else round(score.value * 100, 2),
        "ci95": None if score is None else [round(score.low * 100, 2), round(score.high * 100, 2)],
        "cost_per_1k_usd": 0.0,
        "small_share": None,
        "wall_s": None,
        "n": row.n,
        "unscorable": row.unscorable,
        "commit": commit(),
    }


def constant(task: LabelledTask) -> Callable[[TaskItem], str]:
    """Return what the baseline says of an item; it is made of the training file alone."""
    if task.kind is Kind.MATCHING:
        return lambda _item: YES
    if task.kind is Kind.WRITING:
        said = Counter(row.answer for row in task.train if row.answer).most_common(1)[0][0]
        return lambda _item: said
    values: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for row in task.train:
        for attribute, found in (row.target or {}).items():
            values[row.item.input["category"]][attribute].update(found[:1])
    return lambda item: json.dumps(
        {name: seen.most_common(1)[0][0] for name, seen in values[item.input["category"]].items() if seen}
    )


if __name__ == "__main__":
    sys.exit(main())
