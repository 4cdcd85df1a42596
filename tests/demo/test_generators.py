"""The demo's data: reproducible, free of leaks and duplicates, and negatives that really differ."""

import random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.cli.demo import offers
from bessemer.cli.demo.catalogue import Aspect, make_product, twin
from lab import product_lines

SPELLINGS = {
    Aspect.MODEL: offers.model_text,
    Aspect.SIZE: offers.size_text,
    Aspect.EDITION: offers.edition_text,
    Aspect.PACK: offers.pack_text,
    Aspect.BUNDLE: offers.bundle_text,
}


def spellings(product, aspect):
    random_ = random.Random(0)
    return {SPELLINGS[aspect](product, random_).lower() for _ in range(200)}


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_equal_seeds_give_equal_data_and_prefixes(seed):
    assert offers.generate(30, seed) == offers.generate(40, seed)[:30]
    assert product_lines.generate(30, seed) == product_lines.generate(40, seed)[:30]


def test_different_seeds_give_different_data():
    first = {msgspec.json.encode(pair.input) for pair in offers.generate(500, 1)}
    second = {msgspec.json.encode(pair.input) for pair in offers.generate(500, 2)}
    assert not first & second


def test_no_input_occurs_twice_even_with_its_sides_swapped():
    keys = [
        frozenset(msgspec.json.encode(pair.input[side]) for side in ("left", "right"))
        for pair in offers.generate(3000, 3)
    ]
    assert len(set(keys)) == len(keys)
    inputs = [msgspec.json.encode(brief.input) for brief in product_lines.generate(2000, 3)]
    assert len(set(inputs)) == len(inputs)


@given(st.integers(0, 10**6), st.sampled_from(Aspect))
@settings(max_examples=150)
def test_a_twin_differs_in_one_aspect_and_in_every_spelling_of_it(seed, aspect):
    random_ = random.Random(seed)
    product = make_product(random_)
    other = twin(product, aspect, random_)
    changed = [f for f in product.__struct_fields__ if getattr(product, f) != getattr(other, f)]
    assert len(changed) == 1
    assert not spellings(product, aspect) & spellings(other, aspect)


@given(st.integers(0, 10**6), st.sampled_from(Aspect))
@settings(max_examples=150)
def test_the_aspect_in_focus_is_visible_and_never_mistyped(seed, aspect):
    random_ = random.Random(seed)
    product = make_product(random_)
    title = offers.write_offer(product, aspect, random_)["title"].lower()
    assert any(text in title for text in spellings(product, aspect))


def test_inputs_hold_nothing_but_the_two_offers():
    for pair in offers.generate(300, 4):
        assert set(pair.input) == {"left", "right"}
        assert all(set(pair.input[side]) == {"title", "brand", "price"} for side in pair.input)


def test_shallow_cues_do_not_tell_the_label():
    """Word overlap, lengths and which fields are filled hardly separate matches from near twins."""
    pairs = [pair for pair in offers.generate(4000, 5) if pair.hard or pair.answer == offers.YES]
    assert 0.35 < sum(pair.answer == offers.YES for pair in offers.generate(4000, 5)) / 4000 < 0.45

    def auc(score):
        yes = sorted(score(pair) for pair in pairs if pair.answer == offers.YES)
        no = sorted(score(pair) for pair in pairs if pair.answer == offers.NO)
        wins = sum((a > b) + 0.5 * (a == b) for a in yes[::5] for b in no[::5])
        return wins / (len(yes[::5]) * len(no[::5]))

    def overlap(pair):
        left, right = (set(pair.input[side]["title"].lower().split()) for side in ("left", "right"))
        return len(left & right) / len(left | right)

    def price_gap(pair):
        prices = [pair.input[side]["price"] for side in ("left", "right")]
        return abs(float(prices[0]) - float(prices[1])) / float(prices[0]) if all(prices) else 0.0

    assert abs(auc(overlap) - 0.5) < 0.25
    assert abs(auc(lambda pair: len(str(pair.input))) - 0.5) < 0.06
    assert abs(auc(lambda pair: sum(bool(side["brand"]) for side in pair.input.values())) - 0.5) < 0.06
    assert abs(auc(price_gap) - 0.5) < 0.06


def grade(text, brief):
    scope = {}
    exec(product_lines.grader()["source"], scope)
    return scope["grade"]({"output_text": text}, {"input": brief.input})


def test_every_demonstration_keeps_every_rule_and_covers_none_of_them():
    briefs = product_lines.generate(800, 6)
    easy = [brief for brief in briefs if brief.demonstration is not None]
    assert 0.3 < len(easy) / len(briefs) < 0.5
    for brief in easy:
        assert grade(brief.demonstration, brief) == 1.0
        assert " / " not in brief.input["size"]
        assert not any(claim in brief.input["features"] for claim in product_lines.CLAIMS)


def test_the_rules_of_the_product_line_grader():
    brief = next(b for b in product_lines.generate(50, 7) if b.demonstration is None)
    facts = brief.input
    feature = next(f for f in facts["features"].split(", ") if f not in product_lines.CLAIMS)
    imperial, metric = facts["size"].split(" / ")
    good = f"{facts['brand']} {facts['product']}, {metric}, {feature}"
    assert grade(good, brief) == 1.0
    assert grade("", brief) == 0.0
    assert grade(good.replace(facts["brand"], "Acme"), brief) == 0.0
    assert grade(f"{facts['brand']} {facts['product']}, {facts['size']}, {feature}", brief) == 0.75
    assert grade(good + ", cheapest ever", brief) <= 0.75
    assert grade(good + " " + "x" * 60, brief) == 0.75
    assert grade(f"{facts['brand']} {facts['product']}, {imperial}", brief) == 0.5
