import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.errors import InvalidRequest
from bessemer.core.template import placeholders, render, render_grammar, shared_words

WORDS = st.lists(st.sampled_from(["a", "b", "c", "10", "x-1"])).map(" ".join)


def test_values_go_in_as_text_and_other_types_as_json():
    assert render("{{a.b}} {{ a.c.0 }} {{n}}", {"a": {"b": "x", "c": [1.5]}, "n": None}) == "x 1.5 null"


def test_what_two_records_share_and_what_only_one_has():
    scope = {"input": {"left": "adobe cs3 design upgrade", "right": "adobe cs3 upgrade web"}}
    template = (
        "{{common(input.left, input.right)}} -{{only(input.left, input.right)}} +{{only( input.right,input.left )}}"
    )
    assert render(template, scope) == "adobe cs3 upgrade -design +web"
    assert placeholders(template) == ("input.left", "input.right") * 2 + ("input.right", "input.left")


def test_marks_are_no_words():
    assert shared_words("z xie , j han", "j han & z xie", keep=True) == "z xie j han"
    assert shared_words("a - b", "b", keep=False) == "a"


@given(WORDS, WORDS)
def test_shared_and_own_words_make_up_the_whole(first, second):
    shared, own = shared_words(first, second, keep=True), shared_words(first, second, keep=False)
    assert sorted((shared + " " + own).split()) == sorted(first.split())
    assert sorted(shared.split()) == sorted(shared_words(second, first, keep=True).split())


@pytest.mark.parametrize("template", ["{{input.gone}}", "{{only(input.left, other.right)}}"])
def test_a_missing_name_is_named(template):
    with pytest.raises(InvalidRequest, match="is not there"):
        render(template, {"input": {"left": "x"}})


def test_an_object_rule_needs_a_list_of_different_names():
    template = "start: object\n{{object(input.names)}}value: /x/"
    assert placeholders(template) == ("input.names",)
    rules = render_grammar(template, {"names": ['a "b"', "c"]})
    assert r'"\"a \\\"b\\\"\":" value more::set_bit(0) %if bit_clear(0)' in rules
    for names in ([], ["a", "a"], "ab", [1], [str(i) for i in range(65)]):
        with pytest.raises(InvalidRequest, match=r"input\.names"):
            render_grammar(template, {"names": names})
    with pytest.raises(InvalidRequest, match="rules of a grammar"):
        render(template, {"input": {"names": ["a"]}})
