import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.errors import InvalidRequest
from bessemer.core.template import check, placeholders, render, render_grammar, shared_words

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


MISSPELLED = [
    "{{item['answer']}}",
    '{{item["answer"]}}',
    "{{item.list[0]}}",
    "{{ item.answer | lower }}",
    "{{item.name with space}}",
    "{item.answer}",
    "{{item.answer}",
    "{{item. answer}}",
    "{{Item.answer}}",
    "{{ sample.choices[0].message.content }}",
    "{% if item.answer %}yes{% endif %}",
    "{{#item.answer}}yes{{/item.answer}}",
    "{{{item.answer}}}",
    "${item.answer}",
    "{item.answer}}",
    "item.answer}}",
    "｛｛item.answer｝｝",
    "{{item.answer}}}}",
    "{{item.answer}}}",
    "a: {{item.answer}}} b",
    "<%= item.answer %>",
    "[[item.answer]]",
    "<<item.answer>>",
    "%(item.answer)s",
    "$item.answer",
    "{item[answer]}",
    "{item}",
    "{ item.answer }",
    "{{item.answer:}}",
    "{{.item.answer}}",
    "{{item}",
    "{{ITEM.x}}",
    "{{$item.x}}",
    "\\{\\{item.answer\\}\\}",
    "{\u200b{item.answer}\u200b}",
    "{{item.answer\u200b}}",
    "{{item..x}}",
    "{{item.}}",
    "{{}}",
    "{{ }}",
    "{{item->x}}",
    "{{item:x}}",
    "{{item/x}}",
    "{{answer}}",
    "{%- for x in item.list -%}",
    "{# c #}",
    "{item.answer|lower}",
    "{item!r}",
    "{Item.answer}",
    "&#123;&#123;item.answer&#125;&#125;",
    "{{ item.x ?? 'a' }}",
    "{{lower(item.x)}}",
    "{{common(item.a)}}",
    "#{item.answer}",
    "@{item.x}",
    "﹛item.x﹜",
    "{ {item.x} }",
    "{{item.x}} and {{item.y }",
    "{{",
]
PLAIN_TEXT = [
    "{{item.answer}}",
    "{{ item.answer }}",
    "{{item.名前}}",
    "{{item.list.0}}",
    "{{item}}",
    '{"a": {"b": {{item.x}}}}',
    '{"a": {"b": 1}}',
    "\\boxed{{{item.answer}}}",
    "a{2}b",
    "$5 {x} {items} {item: 1} { {{item.x}} }",
    "no }",
    "{:}",
    "100%}",
    "\\def\\x{%\n foo}",
    "${{item.price}}",
    "{{sample.output_text}} {",
    "item.answer",
    "function f() { if (x) { y } }",
    "[[1,2]] << 3",
]


@pytest.mark.parametrize("template", MISSPELLED)
def test_what_looks_like_a_placeholder_and_is_none_is_refused(template):
    scope = {"item": {"answer": "yes", "list": ["yes"], "x": "yes", "y": "yes"}, "sample": {"output_text": "yes"}}
    for use in (lambda: check(template, ("item", "sample")), lambda: render(f"Label: {template}.", scope)):
        with pytest.raises(InvalidRequest, match="template"):
            use()


@pytest.mark.parametrize("template", PLAIN_TEXT)
def test_other_braces_are_text(template):
    check(template, ("item", "sample"))


@given(st.text())
def test_values_are_never_looked_at(value):
    for braces in (value, "{{item.y}} {% if %} {{{ " + value, "{{item.x | lower}}"):
        assert render("<{{item.x}}>", {"item": {"x": braces}}) == f"<{braces}>"


@pytest.mark.parametrize("index", ["²", "①", "9" * 5000, "-1", "1"])
def test_an_index_is_written_in_plain_digits(index):
    with pytest.raises(InvalidRequest):
        render(f"{{{{item.list.{index}}}}}", {"item": {"list": ["a"]}})


def test_a_prompt_of_grammar_is_looked_at_too():
    with pytest.raises(InvalidRequest, match="looks like a placeholder"):
        render_grammar('start: "{{input.x | trim}}"', {"x": "a"})


def test_marks_on_marks_take_no_square_of_their_number() -> None:
    start = time.process_time()
    check("{{item.a}} a" + "\u0301\u0316" * 200_000, ("item",))
    assert time.process_time() - start < 10


@pytest.mark.parametrize("place", ["{{item.a}}", "{{common(item.a, item.b)}}", "{{item}}"])
def test_a_short_template_makes_no_text_without_end(place: str) -> None:
    scope = {"item": {"a": "word " * 2000, "b": "other " * 2000}}
    assert render(place * 10, scope).count("word") in {20_000, 0}
    with pytest.raises(InvalidRequest, match="16777216"):
        render(place * 100_000, scope)
