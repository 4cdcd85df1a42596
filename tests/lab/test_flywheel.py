"""The benchmark's command line: wrong options are refused by name, and no run passes for another."""

import json
import sys
from types import SimpleNamespace

import pytest

from bessemer.client.loop import ApplicationAnswer
from bessemer.core.errors import InvalidRequest
from bessemer.evals.metrics import Terms
from lab import flywheel
from lab.cases import TaskOptions


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["flywheel.py", *words])
    return flywheel.main()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--name", "a/../b"], "--name 'a/../b'"),
        (["--name", "a", "--traffic", "many"], "traffic: Expected `int`"),
        (["--name", "a", "--train-seconds", "-5"], "train_seconds: Expected `int` >= 3"),
        (["--name", "a", "--alpha", "7"], "alpha: Expected `float` < 1.0"),
        (["--preset", "nope"], "Unknown preset 'nope'; known: "),
        (["--tasks", "/nowhere/tasks.toml"], "--tasks '/nowhere/tasks.toml' cannot be read"),
    ],
)
def test_a_wrong_option_ends_in_one_line_that_names_it(monkeypatch, capsys, words, said):
    assert run(monkeypatch, *words) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("words", [["--fields", "title"], ["--score", "x"], ["--model", "x"], ["--limit", "0"]])
def test_wrong_choices_are_refused_by_the_parser(monkeypatch, capsys, words):
    with pytest.raises(SystemExit) as left:
        run(monkeypatch, "--name", "a", *words)
    assert left.value.code == 2
    assert f"argument {words[0]}" in capsys.readouterr().err


def test_an_unknown_key_of_a_task_is_refused_with_the_known_ones(monkeypatch, capsys, tmp_path):
    (tmp_path / "tasks.toml").write_text('[mine]\ntrian = "a"\n')
    assert run(monkeypatch, "--tasks", str(tmp_path / "tasks.toml")) == 2
    told = capsys.readouterr().err
    assert "trian" in told
    assert "Known options: train, test" in told


def test_a_run_of_other_files_or_options_is_not_continued(tmp_path):
    (tmp_path / "a.jsonl").write_text("1")
    folder = tmp_path / "seed-0"
    folder.mkdir()
    options = TaskOptions(train="a.jsonl", test="a.jsonl", alpha=0.1)
    flywheel.check_same(folder, options, tmp_path)
    flywheel.check_same(folder, options, tmp_path)
    with pytest.raises(InvalidRequest, match="another --alpha; add --fresh"):
        flywheel.check_same(folder, TaskOptions(train="a.jsonl", test="a.jsonl", alpha=0.2), tmp_path)
    (tmp_path / "a.jsonl").write_text("2")
    with pytest.raises(InvalidRequest, match="another --train, --test; add"):
        flywheel.check_same(folder, options, tmp_path)


def test_a_result_that_is_older_than_this_check_stands(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps({}))
    flywheel.check_same(tmp_path, TaskOptions(alpha=0.1), tmp_path)
    flywheel.check_same(tmp_path, TaskOptions(alpha=0.2), tmp_path)


def test_a_system_that_was_asked_nothing_of_the_recorded_part_has_no_row_for_it():
    def answers(*questions):
        fields = {"inference_id": "i", "text": "Yes", "version": "v", "provider": "local", "cost_usd": 0.1}
        fields |= {"escalated": None, "input_tokens": 1, "output_tokens": 1, "latency_s": 0.1}
        return [ApplicationAnswer(question=question, **fields) for question in questions]

    case = SimpleNamespace(covered=frozenset({"c"}), options=TaskOptions(), plan=SimpleNamespace(seed=0), kind=None)
    finals = {"base": answers("a", "b"), "tuned": answers("a", "b", "c")}
    rows = flywheel.system_rows(case, finals, lambda *_: Terms(1.0, 1.0), "v")
    assert [row.name for row in rows] == ["base", "tuned", "tuned, recorded part"]


def test_a_small_models_answer_that_is_not_recorded_counts_as_failed():
    outcome = SimpleNamespace(finals={"tuned": []}, cascade=SimpleNamespace(applied=True))
    [only] = flywheel.final_answers(outcome, {}, ["a"])["tuned"]
    assert (only.question, only.text, only.error is None) == ("a", None, False)


def test_results_say_when_they_were_measured_not_when_they_were_merged(tmp_path):
    (tmp_path / "bessemer.toml").write_text("include_default = true\n")
    task = SimpleNamespace(kind=None)
    row = {"name": "base", "seed": 0, "f1": 1.0, "date": "2020-01-02", "commit": "abc"}
    result = {"machine": "m", "rows": [row], "curve": None}
    path = tmp_path / "results.json"
    for seed in (0, 1):
        again = result | {"rows": [row | {"seed": seed}]}
        flywheel.merge_results(path, task, TaskOptions(), again, tmp_path)
    document = json.loads(path.read_text())
    assert (document["machine"], document["date"], document["commit"]) == ("m", "2020-01-02", "abc")
    assert [one["seed"] for one in document["rows"]] == [0, 1]
    flywheel.merge_results(path, task, TaskOptions(), {"rows": [{"name": "old", "seed": 0}], "curve": None}, tmp_path)
    assert json.loads(path.read_text())["date"] == "2020-01-02"


def test_a_run_with_titles_alone_leaves_the_recorded_models_row(tmp_path):
    (tmp_path / "bessemer.toml").write_text("include_default = true\n")
    path, task = tmp_path / "results.json", SimpleNamespace(kind=None)

    def merge(options, name, wall):
        rows = [{"name": "recorded X", "seed": 0, "wall_s": wall}, {"name": name, "seed": 0, "wall_s": wall}]
        flywheel.merge_results(path, task, options, {"rows": rows, "curve": None}, tmp_path)
        return {row["name"]: row["wall_s"] for row in json.loads(path.read_text())["rows"]}

    merge(TaskOptions(), "tuned", 9.0)
    assert merge(TaskOptions(fields="titles"), "tuned (titles alone)", 4.0) == {
        "recorded X": 9.0, "tuned": 9.0, "tuned (titles alone)": 4.0,
    }  # fmt: skip
    assert merge(TaskOptions(), "tuned", 8.0)["recorded X"] == 8.0
