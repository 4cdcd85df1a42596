"""Datasets: the join, the splits, the content hash, the files."""

import itertools
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.store.samples import keep

from bessemer.core.access import Role
from bessemer.core.content import HASH_VERSION, content_hash, input_hash
from bessemer.core.datasets import Split
from bessemer.core.errors import InvalidRequest
from bessemer.core.feedback import Feedback, FeedbackKind, FeedbackSource
from bessemer.core.inferences import Inference
from bessemer.core.models import Prompt
from bessemer.core.wire import DatasetRequest
from bessemer.feedback.datasets import build, load, split_of
from bessemer.feedback.rows import DEMONSTRATION, parse_rows
from bessemer.identity.policy import RolePolicy
from bessemer.store import datasets, files, keys
from bessemer.store.blob_folder import BlobFolder
from bessemer.store.blobs import BlobStore
from bessemer.store.database import Database
from bessemer.store.keys import KeyRow

PROMPT = Prompt(name="ask", user="same? {{input.x}}")
HALVES = {Split.TRAIN: 0.5, Split.HOLDOUT: 0.5}
_numbers = itertools.count(1)


def inference(x: object, output: str | None = "Yes", **fields: object) -> Inference:
    number = next(_numbers)
    values = {
        "id": f"inf-{number:032x}",
        "route": "match",
        "created_at": float(number),
        "key_id": "key-1",
        "messages": (),
        "input": {"x": x},
        "input_sha256": content_hash({"x": x}),
        "output": output,
        "finish_reason": "stop",
        "version": "small@1",
        "input_tokens": 1,
        "output_tokens": 1,
        "cost_usd": None,
        "latency_s": 0.1,
        "propensity": 1.0,
        "config_sha256": "0",
        "calls": (),
        **fields,
    }
    return Inference(**values)  # type: ignore[arg-type]


def said(about: Inference, value: bool | float | str, metric: str = "verdict", **fields: object) -> Feedback:
    kinds = {bool: FeedbackKind.BOOLEAN, float: FeedbackKind.FLOAT, str: FeedbackKind.DEMONSTRATION}
    number = next(_numbers)
    values = {
        "id": f"fb-{number:032x}",
        "metric": metric,
        "kind": kinds[type(value)],
        "value": value,
        "source": FeedbackSource.HUMAN,
        "created_at": float(number),
        "inference_id": about.id,
        "reviewer": True,
        **fields,
    }
    return Feedback(**values)  # type: ignore[arg-type]


@pytest.fixture
def freeze(sqlite_database: Database, tmp_path):
    """Store rows and build a dataset of them; returns it with its examples."""
    blobs = BlobFolder(tmp_path / "blobs")

    def run(rows, words, prompt=PROMPT, **fields):
        keep(sqlite_database, *rows)
        keep(sqlite_database, *words)
        request = DatasetRequest(name="d", **{"route": "match", "splits": HALVES, **fields})
        dataset = build(sqlite_database, blobs, RolePolicy(), request, prompt=prompt, code_commit="abc", now=9.0)
        return dataset, load(blobs, dataset)

    run.blobs = blobs
    return run


def lines(database: Database, blobs: BlobStore, file_id: str) -> list[dict]:
    return [json.loads(line) for line in blobs.read(files.get(database, file_id).sha256).splitlines()]


splits = st.fixed_dictionaries({split: st.floats(0.01, 1) for split in Split}).map(
    lambda shares: {split: share / sum(shares.values()) for split, share in shares.items()}
)


@given(st.text(max_size=30), st.text(max_size=5), splits)
def test_an_input_is_always_in_the_same_split(value, salt, shares):
    sha256 = content_hash({"x": value})
    assert split_of(sha256, salt, shares) is split_of(sha256, salt, shares)
    assert shares[split_of(sha256, salt, shares)] > 0


def test_splits_have_the_stated_shares():
    shares = {Split.TRAIN: 0.6, Split.SELECTION: 0.1, Split.CALIBRATION: 0.3, Split.HOLDOUT: 0.0}
    found = [split_of(content_hash(index), "", shares) for index in range(20_000)]
    for split, share in shares.items():
        assert abs(found.count(split) / len(found) - share) < 0.02
    assert Split.HOLDOUT not in found


@pytest.mark.parametrize("shares", [{Split.TRAIN: 0.5}, {Split.TRAIN: 1.5, Split.HOLDOUT: -0.5}])
def test_shares_that_are_not_a_whole_are_refused(freeze, shares):
    row = inference(1)
    with pytest.raises(InvalidRequest, match="sum to 1"):
        freeze([row], [said(row, True)], splits=shares)


@pytest.mark.parametrize("deduplicate", [True, False])
def test_no_input_is_in_two_splits(freeze, sqlite_database, deduplicate):
    rows = [inference(index % 40, output=f"a{index % 3}") for index in range(200)]
    tagged = [inference(index, split=Split.HOLDOUT) for index in range(10)]
    words = [said(row, index % 2 == 0) for index, row in enumerate(rows + tagged)]
    dataset, examples = freeze(rows + tagged, words, deduplicate=deduplicate)
    seen: dict[str, set[Split]] = {}
    for example in examples:
        seen.setdefault(content_hash(example.input), set()).add(example.split)
    assert len(seen) == 40
    assert all(len(where) == 1 for where in seen.values())
    assert all(seen[content_hash({"x": index})] == {Split.HOLDOUT} for index in range(10))
    assert len(examples) == (40 if deduplicate else 210)
    in_files = {
        split: {content_hash(row["input"]) for row in lines(sqlite_database, freeze.blobs, file)}
        for split, file in dataset.files.items()
    }
    assert not set.intersection(*in_files.values())


def test_equal_records_give_an_equal_hash_and_everything_is_found_again(freeze, sqlite_database):
    rows = [inference(index) for index in range(20)]
    words = [said(row, True) for row in rows]
    first, examples = freeze(rows, words)
    second, _ = freeze([], [])
    assert first.sha256 == second.sha256
    assert first.id != second.id
    assert datasets.get(sqlite_database, first.id) == first
    assert sum(first.counts.values()) == len(examples) == 20
    provenance = first.provenance
    assert provenance["route"] == "match"
    assert provenance["versions"] == {"small@1": 20}
    assert provenance["feedback"] == {"boolean": 20}
    assert (provenance["first_inference_at"], provenance["last_inference_at"]) == (
        rows[0].created_at,
        rows[-1].created_at,
    )
    assert provenance["code_commit"] == "abc"
    assert provenance["request"]["splits"] == {"train": 0.5, "holdout": 0.5}


def test_the_most_trusted_voice_counts_and_then_the_last(freeze):
    first, second = inference(1), inference(2)
    words = [
        said(first, True, trust=0.9),
        said(first, False, trust=0.5),
        said(second, True, trust=0.5),
        said(second, False, trust=0.5),
        said(second, True, trust=0.0),
    ]
    _, examples = freeze([first, second], words)
    assert [(example.verdict, example.weight) for example in examples] == [(True, 0.9), (False, 0.5)]


def application(about: Inference, value: bool | str, metric: str = "verdict", **fields: object) -> Feedback:
    """Feedback of a key that may judge its own inferences alone."""
    given = {"reviewer": False, "source": FeedbackSource.APPLICATION, "key_id": about.key_id, **fields}
    return said(about, value, metric, **given)


def test_a_persons_correction_outranks_every_programs_by_rule(freeze):
    asked = inference(1, "Maybe")
    words = [
        said(asked, "Yes, block the payment", "demonstration", trust=0.1),
        application(asked, "No, let it through", "demonstration"),
        said(asked, "No", "demonstration", source=FeedbackSource.LLM_JUDGE),
        application(asked, "No", "demonstration", claimed_trust=1.0, claimed_source=FeedbackSource.HUMAN),
    ]
    _, examples = freeze([asked], words)
    assert [(example.demonstration, example.weight) for example in examples] == [("Yes, block the payment", 0.1)]


def test_feedback_of_one_key_on_anothers_inference_counts_for_nothing(freeze):
    asked = inference(1, key_id="key-a")
    words = [application(asked, "mine", "demonstration"), application(asked, "theirs", "demonstration", key_id="key-b")]
    _, examples = freeze([asked], words)
    assert [example.demonstration for example in examples] == ["mine"]


@pytest.mark.parametrize("as_one", [True, False])
def test_asking_the_same_is_no_way_to_anothers_input(freeze, as_one):
    """The key that asked first is heard, whoever speaks last; in rows of their own each is heard for its own alone."""
    first, second = inference(1, key_id="key-a"), inference(1, key_id="key-b")
    words = [application(first, "Yes", "demonstration"), application(second, "No", "demonstration")]
    words += [application(first, True), application(second, False)]
    _, examples = freeze([first, second], words, deduplicate=as_one)
    heard = [(example.demonstration, example.verdict) for example in examples]
    assert heard == ([("Yes", True)] if as_one else [("Yes", True), ("No", False)])


def test_a_person_is_heard_for_an_input_whoever_asked_it(freeze):
    first, second = inference(1, "a", key_id="key-a"), inference(1, "b", key_id="key-b")
    words = [application(first, "Yes", "demonstration"), said(second, "person's", "demonstration")]
    _, examples = freeze([first, second], words)
    assert [example.demonstration for example in examples] == ["person's"]
    _, examples = freeze([], [application(first, True), said(second, False)], metric="verdict")
    assert [(example.answer, example.verdict) for example in examples] == [("b", False)]


def test_feedback_on_an_episode_counts_for_the_inferences_of_its_own_key(freeze):
    rows = [inference(number, key_id=key, episode_id="ep-1") for number, key in enumerate(("key-a", "key-b"))]
    words = [application(rows[0], False, inference_id=None, episode_id="ep-1")]
    _, examples = freeze(rows, words)
    assert [example.id for example in examples] == [rows[0].id]


def test_a_claim_makes_a_voice_lighter_and_never_heavier(freeze):
    asked = inference(1)
    words = [said(asked, True, trust=0.5, claimed_trust=0.5), said(asked, False, trust=0.4, claimed_trust=1.0)]
    _, examples = freeze([asked], words)
    assert [(example.verdict, example.weight) for example in examples] == [(True, 0.25)]


def test_feedback_of_earlier_releases_has_the_rights_of_its_key(freeze, sqlite_database):
    asked = inference(1, key_id="key-app")
    for key_id, role in (("key-app", Role.APP), ("key-other", Role.APP), ("key-person", Role.MEMBER)):
        row = KeyRow(id=key_id, key_hash=key_id, name=key_id, role=role, hint="", created_at=0.0)
        keys.insert(sqlite_database, row)
    old = {"reviewer": None, "trust": 0.5}
    words = [
        said(asked, "a person's", "demonstration", key_id="key-person", **old),
        said(asked, "the application's", "demonstration", key_id="key-app", reviewer=None, trust=1.0),
        said(asked, "a stranger's", "demonstration", key_id="key-other", reviewer=None, trust=1.0),
    ]
    _, examples = freeze([asked], words)
    assert [(example.demonstration, example.weight) for example in examples] == [("a person's", 0.5)]


def test_a_verdict_is_about_an_answer_and_a_demonstration_about_the_input(freeze):
    wrong, right = inference(1, "Yes"), inference(1, "No")
    again = inference(1, "Yes")
    _, examples = freeze(
        [wrong, right, again], [said(wrong, False), said(right, "No", "demonstration")], deduplicate=False
    )
    assert [(example.answer, example.verdict, example.demonstration) for example in examples] == [
        ("Yes", False, "No"),
        ("No", None, "No"),
        ("Yes", False, "No"),
    ]


def test_rows_of_their_own_keep_what_was_said_of_them(freeze):
    rows = [inference(1, "Yes"), inference(1, "Yes"), inference(1, "Yes")]
    words = [said(rows[0], True), said(rows[1], False)]
    _, examples = freeze(rows, words, deduplicate=False)
    assert [example.verdict for example in examples] == [True, False, False]
    assert len({example.split for example in examples}) == 1


def test_feedback_on_an_episode_counts_for_its_inferences(freeze):
    rows = [inference(index, episode_id="ep-1") for index in range(2)]
    word = said(rows[0], 0.5, "stars", inference_id=None, episode_id="ep-1")
    _, examples = freeze(rows, [word])
    assert [example.scores for example in examples] == [{"stars": 0.5}] * 2


def test_what_is_left_out_is_counted(freeze):
    good, silent = inference(1), inference(2)
    failed = inference(3, None, error="provider_error: x")
    own = inference(4, origin="evaluation")
    elsewhere = inference(5, route="other")
    rows = [good, silent, failed, own, elsewhere]
    dataset, examples = freeze(rows, [said(row, True) for row in (good, failed, own, elsewhere)])
    assert [example.id for example in examples] == [good.id]
    assert dataset.provenance["excluded"] == {"failed": 1, "made_by_bessemer": 1, "no_feedback": 1, "same_input": 0}
    assert len(freeze([], [], require_feedback=False)[1]) == 2
    assert len(freeze([], [], include_evaluations=True)[1]) == 2


def test_nothing_left_is_an_error_that_says_why(freeze):
    with pytest.raises(InvalidRequest, match="no_feedback"):
        freeze([inference(1)], [])


@pytest.mark.parametrize("limit", [0, -5])
def test_a_limit_below_one_is_refused(freeze, limit):
    with pytest.raises(InvalidRequest, match=f"`limit` must be at least 1, not {limit}"):
        freeze([inference("a")], [], limit=limit)


def test_tags_are_the_clients_own(freeze):
    """No tag of a client hides a row, moves it to another split, or stops a build."""
    plain = [inference(index) for index in range(40)]
    before = {example.id: example.split for example in freeze(plain, [said(row, True) for row in plain])[1]}
    tags = [{"origin": "checkout-page"}, {"split": "experiment-B"}, {"split": "holdout"}, {"user": "u", "prompt": "p"}]
    others = [inference(index, tags=tags[index % 4]) for index in range(40)]
    _, examples = freeze(others, [said(row, True) for row in others])
    assert [example.split for example in examples] == [before[row.id] for row in plain]


def test_a_row_with_a_bad_split_tag_is_set_aside_and_listed(freeze):
    rows = [inference(1, tags={"group": "holdout"}), inference(2, tags={"group": "test"}), inference(3)]
    dataset, examples = freeze(rows, [said(row, True) for row in rows], split_tag="group", splits={Split.TRAIN: 1.0})
    assert {example.id: example.split for example in examples} == {rows[0].id: Split.HOLDOUT, rows[2].id: Split.TRAIN}
    assert "holdout" in dataset.provenance["quarantined"][rows[1].id]
    assert dataset.provenance["excluded"]["quarantined"] == 1


def test_a_row_that_cannot_be_rendered_or_read_is_set_aside_and_listed(freeze, sqlite_database):
    asked = ({"role": "user", "content": "q"},)
    good = inference(1)
    other = inference(2, input={"y": 1})
    prefilled = inference(3, input=None, messages=(*asked, {"role": "assistant", "content": "It is"}))
    rows = [good, other, prefilled]
    dataset, examples = freeze(rows, [said(row, True) for row in rows], splits={Split.TRAIN: 1.0})
    assert [example.id for example in examples] == [good.id]
    assert set(dataset.provenance["quarantined"]) == {other.id, prefilled.id}
    assert "input.x" in dataset.provenance["quarantined"][other.id]


def test_rows_of_the_first_release_are_read_as_they_were_written(freeze):
    """Then Bessemer's own rows were told by their key, and one input had a hash for each spelling."""
    own = inference(1, tags={"origin": "evaluation"}, key_id="internal")
    text = ({"role": "user", "content": "q"},)
    parts = ({"role": "user", "content": [{"type": "text", "text": "q"}], "name": "ann"},)
    spelt = [inference(0, input=None, messages=m, input_sha256=content_hash(m)) for m in (text, parts)]
    new = inference(0, input=None, messages=text, input_sha256=input_hash(None, text), hash_version=HASH_VERSION)
    rows = [own, *spelt, new]
    dataset, [example] = freeze(rows, [said(row, True) for row in rows])
    assert dataset.provenance["excluded"] == {"made_by_bessemer": 1, "same_input": 2}
    assert dataset.provenance["hash_version"] == HASH_VERSION
    assert example.id == new.id
    assert content_hash(text) == input_hash(None, text), "plain text keeps its hash, and its split"


def test_what_was_said_earlier_in_a_conversation_is_not_taught(freeze, sqlite_database):
    turns = [("user", "a"), ("assistant", "unjudged"), ("user", [{"type": "text", "text": "b"}])]
    messages = tuple({"role": role, "content": content} for role, content in turns)
    row = inference(1, input=None, messages=messages)
    dataset, _ = freeze([row], [said(row, True)], splits={Split.TRAIN: 1.0}, supervised=True)
    [line] = lines(sqlite_database, freeze.blobs, dataset.files["train"])
    [read] = parse_rows(json.dumps(line).encode(), "file", DEMONSTRATION)
    assert (read.completion, read.taught, read.messages[-1]["content"]) == ("Yes", (), "b")


def test_a_dataset_says_who_built_it(freeze):
    row = inference(1)
    assert freeze([row], [said(row, True)])[0].provenance["built_by"] is None


def test_files_hold_rendered_messages_and_what_graders_read(freeze, sqlite_database):
    row = inference(1)
    dataset, _ = freeze([row], [said(row, False), said(row, "No", "demonstration")], splits={Split.TRAIN: 1.0})
    [line] = lines(sqlite_database, freeze.blobs, dataset.files["train"])
    assert line["messages"] == [{"role": "user", "content": "same? 1"}]
    assert (line["input"], line["answer"], line["verdict"], line["demonstration"]) == ({"x": 1}, "Yes", False, "No")
    assert line["id"] == row.id
    assert files.get(sqlite_database, dataset.files["train"]).purpose == "fine-tune"


def test_supervised_files_hold_right_answers_alone(freeze, sqlite_database):
    corrected, right, wrong = inference(1), inference(2), inference(3)
    words = [said(corrected, "No", "demonstration"), said(right, True), said(wrong, False)]
    dataset, examples = freeze([corrected, right, wrong], words, splits={Split.TRAIN: 1.0}, supervised=True)
    rows = lines(sqlite_database, freeze.blobs, dataset.files["train"])
    assert [row["messages"][-1] for row in rows] == [
        {"role": "assistant", "content": "No"},
        {"role": "assistant", "content": "Yes"},
    ]
    assert len(examples) == 3


def test_input_without_a_prompt_cannot_be_rendered(freeze):
    row = inference(1)
    with pytest.raises(InvalidRequest, match="prompt"):
        freeze([row], [said(row, True)], prompt=None)
    spoken = msgspec.structs.replace(
        inference(2), input=None, messages=({"role": "user", "content": "hi"},), input_sha256="f" * 64, route="chat"
    )
    dataset, _ = freeze([spoken], [said(spoken, True)], prompt=None, route="chat")
    assert sum(dataset.counts.values()) == 1


def test_both_databases_give_the_same_dataset(database: Database, tmp_path):
    rows = [inference(index) for index in range(5)]
    keep(database, *rows)
    keep(database, *(said(row, True) for row in rows))
    request = DatasetRequest(name="d", splits={Split.TRAIN: 1.0})
    dataset = build(
        database, BlobFolder(tmp_path / "b"), RolePolicy(), request, prompt=PROMPT, code_commit=None, now=1.0
    )
    assert dataset.counts["train"] == 5
