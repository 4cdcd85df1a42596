"""Loading labelled files: any data set in the formats, nothing by name; splits without overlap."""

import gzip
import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tasks
from bessemer.core.errors import InvalidRequest
from bessemer.core.types import Split
from bessemer.evals.metrics import attribute_counts, attribute_report, binary_report, parse_attributes
from bessemer.evals.truth import parse_label
from cases import Options, build, configuration
from tasks import Item, Kind, Labelled

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared benchmark data is not beside the checkout")
SHARES = {Split.SELECTION: 0.1, Split.CALIBRATION: 0.2, Split.HOLDOUT: 0.1}


def write(path, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def record(index, label, *, year=1990.0):
    return {
        "id_left": f"a{index}", "title_left": f"alpha {index}", "year_left": 1990, "cluster_id_left": 1,
        "id_right": f"b{index}", "title_right": f"beta {index}", "year_right": year, "cluster_id_right": 2,
        "label": label, "pair_id": f"a{index}#b{index}",
    }  # fmt: skip


@pytest.fixture
def files(tmp_path):
    train = write(tmp_path / "train.jsonl.gz", [record(i, i % 2) for i in range(40)])
    test = write(tmp_path / "test.jsonl", [record(i, i % 2) for i in range(100, 110)])
    recorded = write(
        tmp_path / "recorded.jsonl",
        [
            {
                "prompt": f"Same? 1: alpha {i}. 2: beta {i}.",
                "recorded_answer": "Yes",
                "pair_id": f"a{i}#b{i}",
                "label": 1,
            }
            for i in range(100, 106)
        ],
    )
    return train, test, recorded


def test_record_pairs_keep_every_shared_field_and_drop_ids(files):
    task = tasks.load("any", *files)
    assert task.kind is Kind.MATCHING
    assert len(task.train) == 40
    assert task.train[1].answer == tasks.YES
    assert task.train[0].item.input == {
        "left": {"title": "alpha 0", "year": "1990"},
        "right": {"title": "beta 0", "year": "1990"},
    }
    assert "{{common(input.left.year, input.right.year)}}" in task.prompt


def test_the_recorded_prompt_is_found_from_the_files(files):
    task = tasks.load("any", *files)
    assert task.recorded.prompt == "Same? 1: {{input.left.title}}. 2: {{input.right.title}}."
    assert len(task.recorded.answers) == 6
    case = build(task, Options(traffic=40, recorded_price="p"), 0, None)
    assert case.covered == {f"test-{i}" for i in range(6)}


def test_recorded_prompts_of_unknown_make_are_found_by_key(files, tmp_path):
    train, test, _ = files
    rows = [{"prompt": f"text {i}", "recorded_answer": "No", "pair_id": f"a{i}#b{i}", "label": 1} for i in (101, 102)]
    task = tasks.load("any", train, test, write(tmp_path / "odd.jsonl", rows))
    assert task.recorded.prompt_field is None
    assert task.recorded.answers == {"a101#b101": "No", "a102#b102": "No"}


def test_missing_numbers_are_empty(files, tmp_path):
    train, _, _ = files
    task = tasks.load("any", train, write(tmp_path / "nan.jsonl", [record(1, 1, year=float("nan"))]))
    assert task.test[0].item.input["right"]["year"] == ""


def test_titles_alone_use_the_very_recorded_prompt(files, tmp_path):
    task = tasks.load("any", *files, fields="titles")
    options = Options(fields="titles", recorded_price="p")
    config = tomllib.loads(configuration(task, options, tmp_path / "w.gguf", "q"))
    assert config["prompts"]["task"]["user"] == task.recorded.prompt
    assert task.train[0].item.input == {"left": {"title": "alpha 0"}, "right": {"title": "beta 0"}}


def test_prompt_pairs_are_read_with_and_without_quotes(tmp_path):
    rows = [
        {"prompt": "Same product? Entity 1: 'a's b'. Entity 2: 'c. d'.", "completion": "Yes"},
        {"prompt": "Same product? Entity 1: plain. Entity 2: text.", "completion": "No"},
    ]
    test = write(tmp_path / "test.jsonl", [record(1, 1)])
    task = tasks.load("any", write(tmp_path / "train.jsonl", rows), test)
    assert [row.item.input for row in task.train] == [
        {"left": {"title": "a's b"}, "right": {"title": "c. d"}},
        {"left": {"title": "plain"}, "right": {"title": "text"}},
    ]
    assert task.test[0].item.input == {"left": {"title": "alpha 1"}, "right": {"title": "beta 1"}}


def test_attributes_are_answered_in_the_order_of_the_title(tmp_path):
    rows = [
        {"input": "Acme Red 3 cm Lid", "category": "Lid", "target_scores": {"Size": {"3 cm": 1}, "Brand": {"Acme": 1}}},
        {"input": "Zeta Lid", "category": "Lid", "target_scores": {"Brand": {"Zeta": 1}, "Size": {"n/a": 1}}},
    ]
    path = write(tmp_path / "train.jsonl", rows)
    recorded = write(tmp_path / "rec.jsonl", [{**rows[0], "big_output": '{"Brand": "Acme"}'}])
    task = tasks.load("any", path, path, recorded)
    assert task.kind is Kind.ATTRIBUTES
    assert [row.answer for row in task.train] == ['{"Brand":"Acme","Size":"3 cm"}', '{"Brand":"Zeta"}']
    assert task.train[1].target == {"Brand": ["Zeta"], "Size": []}
    assert task.train[1].item.input["attributes"] == ["Brand", "Size"]
    assert task.recorded.answer_field == "big_output"
    assert len(task.recorded.answers) == 1


@pytest.mark.parametrize(
    ("rows", "words"),
    [([{"a": 1}], "label"), ([], "no rows"), ([{"prompt": "x", "completion": "Yes"}], "Entity 1")],
)
def test_wrong_files_are_refused_by_name(tmp_path, rows, words):
    test = write(tmp_path / "test.jsonl", [record(1, 1)])
    with pytest.raises(InvalidRequest, match=words):
        tasks.load("any", write(tmp_path / "train.jsonl", rows), test)


@given(st.lists(st.text(), min_size=1, max_size=60, unique=True), st.text(max_size=5))
def test_splits_depend_on_the_input_alone(texts, salt):
    rows = [Labelled(item=Item(id=str(i), input={"x": text}), answer="Yes") for i, text in enumerate(texts)]
    twins = [Labelled(item=Item(id="other", input={"x": text}), answer="No") for text in texts]
    splits = [tasks.split_of(row, salt, SHARES) for row in rows]
    assert splits == [tasks.split_of(row, salt, SHARES) for row in twins]


def test_splits_have_about_the_asked_shares():
    rows = [Labelled(item=Item(id="", input={"x": i}), answer="Yes") for i in range(4000)]
    splits = [tasks.split_of(row, "s", SHARES) for row in rows]
    for split, share in {**SHARES, Split.TRAIN: 0.6}.items():
        assert abs(splits.count(split) / len(splits) - share) < 0.03


def test_no_traffic_question_is_a_test_question_and_seeds_differ(files):
    task = tasks.load("any", *files)
    first, second = (build(task, Options(traffic=20, recorded_price="p"), seed, None) for seed in (0, 1))
    asked = [json.dumps(question.input) for question in first.plan.questions]
    final = {json.dumps(question.input) for one in first.plan.finals for question in one.questions}
    assert len(asked) == len(set(asked)) == 20
    assert not set(asked) & final
    assert asked != [json.dumps(question.input) for question in second.plan.questions]


def preset(name):
    sections = tomllib.loads((Path(tasks.__file__).parent / "presets.toml").read_text())
    row = sections[name]
    return tasks.load(name, DATA / row["train"], DATA / row["test"], DATA / row["recorded"])


@needs_data
@pytest.mark.parametrize(("name", "expected"), [("dblp_scholar", 63.85), ("amazon_google", 70.42)])
def test_recorded_answers_score_as_published(name, expected):
    task = preset(name)
    truth = {row.item.id: row.answer for row in task.test}
    pairs = [(parse_label(answer, (tasks.YES, tasks.NO)), truth[key]) for key, answer in task.recorded.answers.items()]
    assert round(binary_report(pairs, tasks.YES).f1 * 100, 2) == expected


@needs_data
def test_recorded_attributes_score_as_published():
    task = preset("oa_mine")
    counts = [
        attribute_counts(parse_attributes(task.recorded.answers[row.item.id]), row.target or {}) for row in task.test
    ]
    report = attribute_report(counts)
    assert [round(value * 100, 2) for value in (report.precision, report.recall, report.f1)] == [83.98, 80.42, 82.16]


@needs_data
def test_every_training_answer_is_a_span_answer():
    task = preset("oa_mine")
    for row in task.train:
        title = row.item.input["title"]
        assert all(value in title for values in (row.target or {}).values() for value in values)
        assert json.loads(row.answer) == {name: values[0] for name, values in row.target.items() if values}
