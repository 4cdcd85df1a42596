"""Records out of requests, and the ways that forms of requests are learned."""

import pytest

from bessemer.cli.demo import offers
from bessemer.engine.rungs.records import NestedForm, records_of
from bessemer.engine.rungs.rung import RungItem
from bessemer.ladder.forms import learn_form

PAIRS = offers.generate(300, 5)


def texts(write):
    return [RungItem(write(pair.input["left"], pair.input["right"])) for pair in PAIRS]


def test_quoted_entities_are_read():
    items = texts(lambda a, b: f"Same product? Entity 1: '{a['title']}'. Entity 2: '{b['title']}'.")
    form = learn_form(items)
    left, right = records_of(items[0], form)
    assert left == {"text": PAIRS[0].input["left"]["title"]} and right == {"text": PAIRS[0].input["right"]["title"]}


def test_fields_between_fixed_marks_are_read():
    items = texts(lambda a, b: f"Rules.\nA: {a['title']} | {a['brand']}\nB: {b['title']} | {b['brand']}")
    left, _ = records_of(items[0], learn_form(items))
    assert list(left.values()) == [PAIRS[0].input["left"]["title"], PAIRS[0].input["left"]["brand"]]


def test_named_fields_that_may_be_left_out_are_read():
    def write(a, b):
        told = ["; ".join(f"{key}: {value}" for key, value in one.items() if value) for one in (a, b)]
        return f"Match?\nFirst offer {{{told[0]}}}\nSecond offer {{{told[1]}}}\nAnswer:"

    items = texts(write)
    form = learn_form(items)
    for item, pair in zip(items[:50], PAIRS, strict=False):
        left, _ = records_of(item, form)
        for key in ("brand", "price"):
            assert left.get(key, "") == pair.input["left"][key]


@pytest.mark.parametrize(
    "write",
    [
        lambda a, b: {"left": a, "right": b},
        lambda a, b: {"offer_a": a, "offer_b": b, "shop": "x"},
        lambda a, b: {f"{k}_left": v for k, v in a.items()} | {f"{k}_right": v for k, v in b.items()},
        lambda a, b: {f"l_{k}": v for k, v in a.items()} | {f"r_{k}": v for k, v in b.items()},
        lambda a, b: {f"{k}1": v for k, v in a.items()} | {f"{k}2": v for k, v in b.items()},
    ],
)
def test_structured_inputs_are_read(write):
    items = [RungItem(input=write(pair.input["left"], pair.input["right"])) for pair in PAIRS]
    left, right = records_of(items[0], learn_form(items))
    assert left == PAIRS[0].input["left"] and right == PAIRS[0].input["right"]


def test_plain_texts_are_no_pairs():
    assert learn_form([RungItem(f"where is my {pair.input['left']['title']}") for pair in PAIRS]) is None
    assert learn_form([RungItem(input={"text": pair.input["left"]["title"], "lang": "en"}) for pair in PAIRS]) is None


def test_another_form_is_not_read():
    assert records_of(RungItem("hello"), NestedForm(left="a", right="b")) is None
    assert records_of(RungItem(input={"a": {}}), NestedForm(left="a", right="b")) is None
