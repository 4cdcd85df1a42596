import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tuning.conftest import local_tuner

from bessemer.core.errors import InvalidRequest
from bessemer.engine.engine import LoadedModel
from bessemer.feedback.rows import TrainingRow
from bessemer.tuning.mentions import Mentions
from bessemer.tuning.methods.supervised import SupervisedSpec
from bessemer.tuning.spec import TuneSpec
from bessemer.tuning.tuner import Tuner


def row(title: str, category: str = "", prompt: str = "Title: {}", **values: object) -> TrainingRow:
    messages = ({"role": "system", "content": "Name what it says."}, {"role": "user", "content": prompt.format(title)})
    item = {"input": {"title": title, "category": category}}
    return TrainingRow(messages=messages, completion=json.dumps(values, ensure_ascii=False), item=item)


ROWS = [
    row("Kroger Corn Flakes 12 oz", "cereal", Brand="Kroger", Size="12 oz"),
    row("Stash Black Tea 20 bags", "tea", Brand="Stash", Size="20 bags"),
    row("Quaker Oats 3 kg", "cereal", Brand="Quaker", Size="3 kg"),
]


def drawn(rows: list[TrainingRow], index: int, *, group: str | None = None, share: float = 1.0) -> list[TrainingRow]:
    mentions = Mentions(rows, share, group, seed=0)
    return [mentions.drawn(index, step) for step in range(60)]


def said(one: TrainingRow) -> tuple[str, dict[str, object]]:
    return one.messages[-1]["content"], json.loads(one.completion or "")


def test_prompt_and_answer_change_alike_to_values_that_other_rows_have():
    seen = {said(one)[0] for one in drawn(ROWS, 0)}
    brands, sizes = ("Kroger", "Stash", "Quaker"), ("12 oz", "20 bags", "3 kg")
    assert seen == {f"Title: {brand} Corn Flakes {size}" for brand in brands for size in sizes}
    for one in drawn(ROWS, 0):
        text, values = said(one)
        assert text == f"Title: {values['Brand']} Corn Flakes {values['Size']}"
        assert one.messages[0] == ROWS[0].messages[0]
        assert one.item == ROWS[0].item


def test_rows_of_another_group_lend_nothing():
    values = [said(one)[1] for one in drawn(ROWS, 0, group="category")]
    assert {value["Brand"] for value in values} == {"Kroger", "Quaker"}


def test_a_share_of_the_values_is_replaced_and_the_same_step_draws_the_same():
    many = [row(f"brand{i} thing", Brand=f"brand{i}") for i in range(50)]
    mentions = Mentions(many, 0.25, None, seed=3)
    changed = sum(mentions.drawn(i, step) is not many[i] for i in range(50) for step in range(40))
    assert 0.2 < changed / 2000 < 0.3
    again = Mentions(many, 0.25, None, seed=3)
    assert [mentions.drawn(i, 7) for i in range(50)] == [again.drawn(i, 7) for i in range(50)]


@pytest.mark.parametrize(
    ("title", "values"),
    [
        ("Teapot Tea", {"Form": "pot"}),  # a part of a word
        ("Tea Tea", {"Form": "Tea"}),  # which of the two
        ("Green Tea", {"Form": "Green Tea", "Colour": "Green"}),  # one within the other
        ("Green Tea", {"Form": "n/a"}),  # not in the prompt
        ("Green Tea", {"Form": ["Green"], "Count": 3, "Kind": {"a": "Tea"}}),  # no texts
    ],
)
def test_values_whose_place_is_not_certain_stay(title: str, values: dict[str, object]):
    first = row(title, **values)
    assert drawn([first, *ROWS, row("Black Tea", Form="Black")], 0) == [first] * 60


def test_answers_that_are_no_objects_stay_and_escaped_ones_keep_their_spelling():
    plain = TrainingRow(messages=ROWS[0].messages, completion="Yes", item={})
    escaped = msgspec.structs.replace(row("Café 5", Brand="Café"), completion=json.dumps({"Brand": "Café"}))
    rows = [plain, escaped, row("Señor 6", Brand="Señor")]
    assert drawn(rows, 0) == [plain] * 60
    assert {one.completion for one in drawn(rows, 1)} == {'{"Brand": "Caf\\u00e9"}', '{"Brand": "Se\\u00f1or"}'}


def test_a_group_that_no_row_has_is_refused():
    with pytest.raises(InvalidRequest, match=r"mention_group is 'shelf'") as refused:
        Mentions(ROWS, 0.5, "shelf", seed=0)
    assert refused.value.param == "metadata"


@given(st.lists(st.text(alphabet='ab"\\é 1.', min_size=1, max_size=6), min_size=1, max_size=4), st.integers(0, 99))
def test_every_answer_stays_an_object_of_values_from_its_prompt(words: list[str], step: int):
    rows = [row(" ".join(words), **{f"f{i}": word for i, word in enumerate(words)}), row("zz y", f0="zz", f1="y")]
    text, values = said(Mentions(rows, 1.0, None, seed=0).drawn(0, step))
    assert list(values) == [f"f{i}" for i in range(len(words))]
    assert all(isinstance(value, str) and value in text for value in values.values())


def test_a_run_reads_replaced_rows_and_continues_bit_for_bit(tmp_path: Path, model: LoadedModel):
    """The tiny model's tokenizer knows few words; any text has tokens."""
    spec = TuneSpec(
        base="tiny", method="sft", epochs=6.0, batch_size=2, own=SupervisedSpec(mention_replacement=1.0), threads=1
    )

    def run(folder: str, replacement: float) -> Tuner:
        chosen = msgspec.structs.replace(spec, own=SupervisedSpec(mention_replacement=replacement))
        return local_tuner(chosen, ROWS, ROWS[:1], None, tmp_path / folder, model=model)

    whole, plain = run("whole", 1.0), run("plain", 0.0)
    losses = [[one.step().metrics["train_loss"] for _ in range(4)] for one in (whole, plain)]
    assert losses[0] != losses[1]
    assert whole.step().metrics["rows_replaced"] > 0
    first = run("parts", 1.0)
    first.step()
    first.save()
    second = run("parts", 1.0)
    assert [second.step().metrics["train_loss"] for _ in range(3)] == losses[0][1:]
