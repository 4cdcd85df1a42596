"""The answer that samples agree on: no other set of their fields has a higher F1 against them."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.gateway.consensus import consensus

OBJECTS = st.lists(st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["x", "y", 1, None, ["x"]])), min_size=1)


def f1(answer, samples):
    """Micro-F1 of an answer against all samples."""
    shared = sum(sample.get(name, ...) == value for sample in samples for name, value in answer.items())
    total = len(answer) * len(samples) + sum(map(len, samples))
    return 2 * shared / total if total else 1.0


@given(OBJECTS)
def test_no_other_set_of_fields_agrees_more(samples):
    found = consensus([json.dumps(sample) for sample in samples])
    assert found is not None
    answer = json.loads(found.text)
    assert found.agreement == pytest.approx(f1(answer, samples))
    for names in itertools.product(*([..., *(s[name] for s in samples if name in s)] for name in "abcd")):
        other = {name: value for name, value in zip("abcd", names, strict=True) if value is not ...}
        assert f1(other, samples) <= found.agreement + 1e-12


@given(st.dictionaries(st.text(), st.text()), st.integers(1, 5))
def test_samples_that_are_alike_are_the_answer(answer, times):
    found = consensus([json.dumps(answer)] * times)
    assert found is not None
    assert (json.loads(found.text), found.agreement) == (answer, 1.0)


def test_a_guess_of_one_sample_is_left_out_and_the_order_is_the_samples():
    samples = ['{"brand": "Kroger", "size": "12"}', '{"brand":"Kroger","scent":"mint"}', '{"size":"12","brand":"Kro"}']
    found = consensus(samples)
    assert found is not None
    assert found.text == '{"brand":"Kroger","size":"12"}'
    assert found.agreement == pytest.approx(2 * 4 / (2 * 3 + 6))


def test_what_is_no_object_counts_for_nothing():
    assert consensus(["Yes", "[1]", '{"a": ', "\ud800"]) is None
    found = consensus(["Yes", '{"a": 1}'])
    assert found is not None
    assert found.text == '{"a":1}'
