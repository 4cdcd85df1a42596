import math

import pytest

from bessemer.core.inferences import TokenLogprob
from bessemer.gateway.fields import confident, fields, mean_probability


def tokens(*pairs):
    return [TokenLogprob(token=text, logprob=math.log(p), forced=forced) for text, p, forced in pairs]


ANSWER = tokens(
    ('{"', 0.5, False), ("Brand", 0.9, False), ('":"', 1.0, True), ("Kro", 0.8, False), ("ger", 0.5, False),
    ('","', 0.9, False), ("Size", 0.1, False), ('":"', 1.0, True), ("12", 0.5, False), ('"', 0.2, True),
    ("}", 0.7, False), ("", 0.9, False),
)  # fmt: skip


def test_a_value_is_its_own_tokens_and_the_one_that_ends_it():
    brand, size = fields(ANSWER)
    assert (brand.name, brand.value, size.name, size.value) == ("Brand", '"Kroger"', "Size", '"12"')
    assert brand.probability == pytest.approx(0.8 * 0.5 * 0.9)
    assert size.probability == pytest.approx(0.5)  # the forced quote decides nothing
    assert mean_probability(ANSWER) == pytest.approx((0.36 + 0.5) / 2)


def test_quotes_inside_a_value_and_other_types():
    text = '{"a":"1\\" x","b": -2.5,"c":{"d":true}}'
    found = fields(tokens(*((character, 0.5, False) for character in text)))
    assert [(field.name, field.value) for field in found] == [("a", '"1\\" x"'), ("b", "-2.5"), ("d", "true")]
    assert found[1].probability == pytest.approx(0.5**4)


def test_text_that_is_no_object_has_no_fields():
    assert mean_probability(tokens(("Yes", 0.9, False))) is None
    assert mean_probability([]) is None


def test_values_in_doubt_are_left_out():
    text = '{"Brand":"Kroger","Size":"12"}'
    assert confident(text, ANSWER, 0.0) == text
    assert confident(text, ANSWER, 0.4) == '{"Size":"12"}'
    assert confident(text, ANSWER, 0.9) == "{}"
    assert confident("no JSON", ANSWER, 0.9) == "no JSON"
