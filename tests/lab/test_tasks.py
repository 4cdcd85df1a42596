"""Loading labelled files: any data set in the formats, nothing by name; splits without overlap."""

import gzip
import json
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.tiny_model import ByteTokens

from bessemer.core.datasets import Split
from bessemer.core.errors import EngineError, InvalidRequest
from bessemer.core.template import render, render_grammar
from bessemer.engine.constraint import Grammars
from bessemer.engine.request import Lark
from bessemer.evals.metrics import AttributeCounts, attribute_counts, label_terms, parse_attributes, total
from bessemer.evals.truth import parse_label
from lab import rows, tasks
from lab.cases import TaskOptions, build, configuration
from lab.tasks import Kind, Labelled, TaskItem

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
    case = build(task, TaskOptions(traffic=40, recorded_price="p"), 0, None)
    assert case.covered == {f"test-{i}" for i in range(6)}


def test_recorded_prompts_of_unknown_make_are_found_by_key(files, tmp_path):
    train, test, _ = files
    rows = [{"prompt": f"text {i}", "recorded_answer": "No", "pair_id": f"a{i}#b{i}", "label": 1} for i in (101, 102)]
    task = tasks.load("any", train, test, write(tmp_path / "odd.jsonl", rows))
    assert task.recorded.prompt_field is None
    assert task.recorded.answers == {"a101#b101": "No", "a102#b102": "No"}


def test_recorded_prompts_may_end_in_a_question_of_their_own(tmp_path):
    def ask(index, end):
        return {"prompt": f"Same? Entity 1: 'lid {index}'. Entity 2: 'cap {index}'.{end}", "completion": "Yes"}

    train, test = ([ask(i, "") for i in ids] for ids in (range(5), range(5, 9)))
    recorded = [ask(i, " Answer Yes or No.") | {"recorded_answer": "No"} for i in range(6, 9)]
    task = loaded(tmp_path, train, test, recorded)
    assert len(task.recorded.answers) == 3
    assert task.recorded.prompt.endswith(" Answer Yes or No.")


def test_missing_numbers_are_empty(files, tmp_path):
    train, _, _ = files
    task = tasks.load("any", train, write(tmp_path / "nan.jsonl", [record(1, 1, year=float("nan"))]))
    assert task.test[0].item.input["right"]["year"] == ""


def test_titles_alone_use_the_very_recorded_prompt(files, tmp_path):
    task = tasks.load("any", *files, fields="titles")
    options = TaskOptions(fields="titles", recorded_price="p")
    config = tomllib.loads(configuration(task, task.train, options, tmp_path / "w.gguf", "q"))
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
    assert [row.answer for row in task.train] == ['{"Brand":"Acme","Size":"3 cm"}', '{"Brand":"Zeta","Size":"n/a"}']
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


def pair_row(index, label=1, **fields):
    return record(index, label) | fields


def loaded(tmp_path, train, test, recorded=None, **options):
    files = {"train": train, "test": test} | ({} if recorded is None else {"recorded": recorded})
    return tasks.load("any", *(write(tmp_path / f"{name}.jsonl", rows) for name, rows in files.items()), **options)


@pytest.mark.parametrize(
    "prompt",
    [
        "Same? Product 1: 'alpha {0}'. Product 2: 'beta {0}'.",
        "Record A: alpha {0}\nRecord B: beta {0}\n",
        "Entity 1: 'alpha {0}'. Entity 2: 'beta {0}'. Are these the same? Answer Yes or No.",
    ],
)
def test_prompts_of_other_phrasings_hold_the_same_records(tmp_path, prompt):
    rows = [{"prompt": prompt.format(i), "completion": "no"} for i in range(3)]
    task = loaded(tmp_path, rows, [record(7, 1)])
    assert [row.item.input for row in task.train] == [
        {"left": {"title": f"alpha {i}"}, "right": {"title": f"beta {i}"}} for i in range(3)
    ]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([record(0, 0), record(1, None)], r"train.jsonl row 2: 'label' must be 0 or 1, not None"),
        ([record(0, 2)], "'label' must be 0 or 1, not 2"),
        ([{"prompt": "Entity 1: a. Entity 2: b.", "completion": "Maybe"}], "row 1: 'completion' must be Yes or No"),
        ([{"prompt": "Entity 1: a. Entity 2: b.", "completion": "Yes"}, {}], "row 2: 'prompt' must be a text"),
        ([{"input": 5, "target_scores": {"Brand": {"x": 1}}}], "row 1: 'input' must be a text, not 5"),
        ([{"input": "a", "target_scores": ["x"]}], "row 1: 'target_scores' must be attributes"),
        ([{"input": "a", "target_scores": {}}], "annotates no attribute"),
    ],
)
def test_a_wrong_row_is_refused_by_number_and_field(tmp_path, rows, words):
    with pytest.raises(InvalidRequest, match=words):
        loaded(tmp_path, rows, rows[:1])


@pytest.mark.parametrize("content", [b'{"a": "\xff"}\n', b'{"a": "\\ud800"}\n', b"[1]\n"])
def test_a_file_that_is_no_text_is_refused(tmp_path, content):
    (tmp_path / "odd.jsonl").write_bytes(content)
    with pytest.raises(InvalidRequest, match=r"odd\.jsonl"):
        rows.read_rows(tmp_path / "odd.jsonl")


def test_half_a_gzip_file_is_refused(tmp_path):
    path = write(tmp_path / "cut.jsonl.gz", [record(i, 1) for i in range(50)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InvalidRequest, match="cannot be read"):
        rows.read_rows(path)


def test_labels_are_read_in_every_common_form(tmp_path):
    rows = [record(i, label) for i, label in enumerate([1, "1", 1.0, True, "yes", 0, "0", 0.0, False, "No"])]
    task = loaded(tmp_path, rows, [record(50, 1)])
    assert [row.answer for row in task.train] == ["Yes"] * 5 + ["No"] * 5


def test_a_field_that_the_first_row_lacks_counts(tmp_path):
    rows = [record(0, 1), pair_row(1, brand_left="b"), pair_row(2, brand_right="c")]
    task = loaded(tmp_path, rows, [pair_row(3, brand_left="x", brand_right="y")])
    assert task.train[1].item.input["left"] == {"title": "alpha 1", "year": "1990", "brand": "b"}
    assert task.train[0].item.input["left"]["brand"] == ""


def test_names_of_fields_that_templates_cannot_hold_are_changed(tmp_path):
    train, test = (
        [pair_row(0) | {"list price_left": 1, "list price_right": 2}],
        [pair_row(5) | {"list price_left": 3, "list price_right": 4}],
    )
    task = loaded(tmp_path, train, test)
    assert "{{common(input.left.list_price, input.right.list_price)}}" in task.prompt
    assert task.train[0].item.input["left"]["list_price"] == "1"


def answer(index, said="Yes", **fields):
    prompt = f"Same? 1: alpha {index}. 2: beta {index}."
    return {"prompt": prompt, "recorded_answer": said, "pair_id": f"a{index}#b{index}", "label": 1} | fields


def test_titles_alone_are_the_field_that_was_recorded_not_the_first(tmp_path):
    def brand_first(index):
        return {"brand_left": "b", "brand_right": "c"} | record(index, 1)

    task = loaded(tmp_path, [brand_first(0)], [brand_first(7)], [answer(7)], fields="titles")
    assert task.train[0].item.input == {"left": {"title": "alpha 0"}, "right": {"title": "beta 0"}}
    assert task.prompt == "Same? 1: {{input.left.title}}. 2: {{input.right.title}}."
    other = loaded(tmp_path, [brand_first(0)], [brand_first(7)], [answer(7, prompt="unknown")], fields="titles")
    assert other.train[0].item.input["left"] == {"title": "alpha 0"}
    assert other.prompt == tasks.matching_prompt(["title"])


def test_pair_ids_may_be_numbers(tmp_path):
    recorded = [answer(7, pair_id=7), answer(8, pair_id=8)]
    task = loaded(tmp_path, [record(0, 1)], [pair_row(7, pair_id=7), pair_row(8, pair_id=8)], recorded)
    assert task.recorded.answers == {"7": "Yes", "8": "Yes"}


def test_recorded_prompts_without_a_pair_id_are_found_by_their_records(tmp_path):
    test = [{"prompt": f"Same? Entity 1: 'alpha {i}'. Entity 2: 'beta {i}'.", "completion": "Yes"} for i in range(9)]
    recorded = [{"prompt": f"Entity 1: alpha {i}. Entity 2: beta {i}.", "recorded_answer": "No"} for i in range(4)]
    task = loaded(tmp_path, [record(50, 1)], test, recorded)
    assert [row.item.id in task.recorded.answers for row in task.test] == [True] * 4 + [False] * 5
    assert task.recorded.key_field is None


def test_answers_that_will_not_be_served_are_not_counted_on(tmp_path):
    recorded = [answer(i) for i in range(150)]
    recorded += [answer(0), answer(1, "No"), answer(200, None)]
    recorded[2] = answer(2, prompt="another text")
    test = [record(i, 1) for i in [*range(150), 200]]
    task = loaded(tmp_path, [record(300, 1)], test, recorded)
    missing = {row.item.id for row in task.test} - set(task.recorded.answers)
    assert missing == {"a1#b1", "a2#b2", "a200#b200"}, "told twice differently, another prompt, null"


def test_long_records_are_cut_for_the_small_model_alone(tmp_path):
    words = " ".join(f"word{i}" for i in range(3000))
    long = pair_row(7, title_left="alpha 7 " + words, title_right="beta 7 ü" + "€" * 2000)
    recorded = [answer(7, prompt=f"Same? 1: {long['title_left']}. 2: {long['title_right']}."), answer(8)]
    task = loaded(tmp_path, [long | {"label": 0}, record(0, 1)], [long, record(8, 1)], recorded)
    small = msgspec.json.encode(task.test[0].item.input["left"])
    assert 1000 < len(small) < 2000
    assert task.test[0].item.input["left"]["year"] == "1990", "the longest is cut first"
    assert task.train[0].item.input["left"] == task.test[0].item.input["left"]
    assert len(task.test[0].item.input["right"]["title"].encode()) <= 900
    scope = {"input": task.test[0].item.input}
    assert render(task.recorded.prompt, scope) == recorded[0]["prompt"]
    assert set(task.recorded.answers) == {"a7#b7", "a8#b8"}


def lid(title, category="Lid", target=None, **fields):
    return {"input": title, "category": category, "target_scores": target or {"Brand": {"Acme": 1}}} | fields


def test_attributes_of_every_form(tmp_path):
    forms = {
        "a": {"x": 1, "y": 1}, "b": {"x": 0, "y": 1}, "c": {"n/a": 1}, "d": {}, "e": None, "f": "x", "g": ["x", 5],
    }  # fmt: skip
    task = loaded(tmp_path, [lid("x y", None, forms)], [lid("z", "New")])
    assert task.train[0].target == {
        "a": ["x", "y"], "b": ["y"], "c": [], "d": [], "e": [], "f": ["x"], "g": ["x", "5"],
    }  # fmt: skip
    assert task.train[0].item.input["category"] == ""
    assert task.test[0].item.input["attributes"] == list(forms), "of an unknown category, all"


def test_where_no_value_is_annotated_a_value_costs_and_none_can_be_said(tmp_path):
    rows = [lid("Acme Lid", target={"Color": {"n/a": 1}, "Brand": {"Acme": 1}}), lid("Acme Pan")]
    task = loaded(tmp_path, rows, rows)
    demonstration = json.loads(task.train[0].answer)
    assert list(demonstration) == ["Brand", "Color"]
    assert attribute_counts({"Brand": "Acme", "Color": "Lid"}, demonstration) == AttributeCounts(vc=1, nv=1)
    assert attribute_counts(demonstration, task.test[0].target) == AttributeCounts(vc=1, nn=1)
    assert tasks.grammar(task.train[1:]) == tasks.GRAMMAR
    rules = Lark(grammar=render_grammar(tasks.grammar(task.train), task.train[0].item.input))
    for answer, right in ((task.train[0].answer, True), ('{"Brand":"Lid"}', True), ('{"Brand":"none"}', False)):
        assert accepted(rules, answer) is right


def test_values_that_no_title_has_can_be_said_when_they_return(tmp_path):
    """A value of its own words, quotes and placeholders included; one that was seen once is not learned."""
    wet, once = 'Water "proof"', "Unheard of"
    target = {"Feature": {wet: 1}, "Kind": {"{{input.x}}": 1}, "Unit": {"oz": 1}}
    rows = [lid(f"Lid {i} 12oz", target=target) for i in range(3)]
    task = loaded(tmp_path, [*rows, lid("Lid 9", target={"Feature": {once: 1}})], rows)
    rules = Lark(grammar=render_grammar(tasks.grammar(task.train), task.train[0].item.input))
    for value, right in (
        (wet, True),
        ("Lid", True),
        ("oz", True),
        ("2oz", False),
        (once, False),
        ("Water", False),
        ("{{input.x}}", False),
    ):
        assert accepted(rules, json.dumps({"Feature": value}, separators=(",", ":"))) is right


def accepted(rules, text):
    """Say whether a grammar lets a text begin an answer."""
    tokens = ByteTokens()
    try:
        Grammars(tokens, tokens.vocab_size).start(rules).consume(tokens.encode(text))
    except EngineError:
        return False
    return True


def test_recorded_attributes_are_found_by_the_title_alone_as_they_are_served(tmp_path):
    recorded = [
        lid("a", None, big_output="{}"),
        lid("b", "Lid", big_output="{}"),
        lid("b", "Pan", big_output='{"B":1}'),
    ]
    task = loaded(tmp_path, [lid("x")], [lid("a"), lid("b", "Pan"), lid("c")], recorded)
    assert [row.item.id in task.recorded.answers for row in task.test] == [True, False, False]
    with pytest.raises(InvalidRequest, match="shares no 'input'"):
        loaded(tmp_path, [lid("x")], [lid("a")], [lid("other", big_output="{}")])
    with pytest.raises(InvalidRequest, match="row 2: there is no 'big_output'"):
        loaded(tmp_path, [lid("x")], [lid("a")], [lid("a", big_output="{}"), lid("b")])


def test_the_limit_of_an_answer_has_room_for_every_script(tmp_path):
    def limit(value):
        task = loaded(tmp_path, [lid(value, target={"Brand": {value: 1}})], [lid("x")])
        return tomllib.loads(configuration(task, task.train, TaskOptions(), tmp_path / "w.gguf", "q"))["prompts"][
            "task"
        ]["max_tokens"]

    assert limit("b" * 60) == 32 + (60 + len('{"Brand":""}')) // 3
    assert limit("字" * 60) >= 32 + 180


def test_long_titles_are_cut_for_the_small_model_alone(tmp_path):
    long = "Acme " + "very " * 2000 + "long"
    task = loaded(tmp_path, [lid(long)], [lid(long), lid("short")], [lid(long, big_output="{}")])
    assert len(task.test[0].item.input["title"]) < 2000
    assert task.test[0].item.input["escaped"] == task.test[0].item.input["title"]
    assert [render(task.recorded.prompt, {"input": row.item.input}) for row in task.test] == [long, "short"]


@given(st.lists(st.text(), min_size=1, max_size=60, unique=True), st.text(max_size=5))
def test_splits_depend_on_the_input_alone(texts, salt):
    rows = [Labelled(item=TaskItem(id=str(i), input={"x": text}), answer="Yes") for i, text in enumerate(texts)]
    twins = [Labelled(item=TaskItem(id="other", input={"x": text}), answer="No") for text in texts]
    splits = [tasks.split_of(row, salt, SHARES) for row in rows]
    assert splits == [tasks.split_of(row, salt, SHARES) for row in twins]


def test_splits_have_about_the_asked_shares():
    rows = [Labelled(item=TaskItem(id="", input={"x": i}), answer="Yes") for i in range(4000)]
    splits = [tasks.split_of(row, "s", SHARES) for row in rows]
    for split, share in {**SHARES, Split.TRAIN: 0.6}.items():
        assert abs(splits.count(split) / len(splits) - share) < 0.03


def test_no_split_of_a_smoke_run_is_empty_and_those_of_real_runs_stay(tmp_path):
    task = loaded(tmp_path, [record(i, i % 2) for i in range(700)], [record(900, 1)])
    for seed in range(10):
        few = [question.split for question in build(task, TaskOptions(), seed, 40).plan.questions]
        assert set(few) == set(Split)
    many = [question.split for question in build(task, TaskOptions(), 0, None).plan.questions]
    assert 0.01 < many.count(Split.HOLDOUT) / len(many) < 0.04


def test_no_traffic_question_is_a_test_question_and_seeds_differ(files):
    task = tasks.load("any", *files)
    first, second = (build(task, TaskOptions(traffic=20, recorded_price="p"), seed, None) for seed in (0, 1))
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
    assert round(total(label_terms(said, actual, tasks.YES) for said, actual in pairs) * 100, 2) == expected


@needs_data
def test_recorded_attributes_score_as_published():
    task = preset("oa_mine")
    counts = [
        attribute_counts(parse_attributes(task.recorded.answers[row.item.id]), row.target or {}) for row in task.test
    ]
    assert round(total(item.terms for item in counts) * 100, 2) == 82.16


@needs_data
def test_every_training_answer_is_a_span_answer():
    task = preset("oa_mine")
    for row in task.train:
        title = row.item.input["title"]
        assert all(value in title for values in (row.target or {}).values() for value in values)
        assert json.loads(row.answer) == {name: values[0] for name, values in row.target.items() if values}
