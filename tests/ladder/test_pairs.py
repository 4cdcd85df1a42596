"""The rung for pairs of records: what it equals, and what it does not depend on (L5, L7, L8, L9)."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from bessemer.cli.demo import offers
from bessemer.core.errors import InvalidRequest
from bessemer.engine.rungs.kinds import open_rung
from bessemer.engine.rungs.rung import RungItem
from bessemer.ladder.fit import fit, suits
from bessemer.ladder.forms import learn_form
from bessemer.ladder.groups import grouped, id_fields, leaks
from bessemer.ladder.lessons import Lesson, folds_of
from bessemer.ladder.pairs import trees_of


def lessons_of(count, seed):
    return [Lesson(RungItem(input=pair.input), pair.answer) for pair in offers.generate(count, seed)]


@pytest.fixture(scope="module")
def fitted():
    return fit("pairs", lessons_of(200, 3), positive="Yes")


@pytest.fixture(scope="module")
def rung(fitted):
    return open_rung(fitted.artefact)


ITEMS = [one.item for one in lessons_of(60, 4)]


@pytest.mark.parametrize("classes", [2, 3])
def test_own_trees_equal_the_library_s(classes):
    """L5: 1,000 rows, missing values among them."""
    random_ = np.random.default_rng(classes)
    x = random_.normal(size=(1000, 6))
    x[random_.random(x.shape) < 0.2] = np.nan
    y = (np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 1]) > 0).astype(int) + (classes > 2) * (np.nan_to_num(x[:, 2]) > 1)
    model = HistGradientBoostingClassifier(max_iter=30, early_stopping=False).fit(x, y)
    expected = model.decision_function(x).reshape(len(x), -1)
    assert np.allclose(trees_of(model, classes).outputs(x), expected, atol=1e-6)


def test_swapped_records_and_reordered_fields_change_nothing(rung):
    """L7"""
    before = rung.predict(ITEMS)
    swapped = [RungItem(input={"right": item.input["left"], "left": item.input["right"]}) for item in ITEMS]
    turned = [
        RungItem(input={side: dict(reversed(record.items())) for side, record in item.input.items()}) for item in ITEMS
    ]
    for items in (swapped, turned):
        after = rung.predict(items)
        assert np.array_equal(before.probabilities, after.probabilities)
        assert np.allclose(before.known_share, after.known_share, atol=1e-12)


def test_an_unseen_field_changes_nothing(rung):
    """L7"""
    more = [RungItem(input={side: {**r, "seller": "x"} for side, r in item.input.items()}) for item in ITEMS]
    assert np.array_equal(rung.predict(more).probabilities, rung.predict(ITEMS).probabilities)


def test_the_order_of_rows_changes_nothing(fitted):
    """L7, L9: the same artefact, bit by bit."""
    again = fit("pairs", list(reversed(lessons_of(200, 3))), positive="Yes")
    assert again.artefact.sha256 == fitted.artefact.sha256


def test_weights_have_no_unit_and_weight_zero_is_no_row(fitted):
    """L11"""
    lessons = [one._replace(weight=8.0) for one in lessons_of(200, 3)]
    ignored = [one._replace(weight=0.0, answer="Maybe") for one in lessons_of(30, 9)]
    assert fit("pairs", lessons + ignored, positive="Yes").artefact.sha256 == fitted.artefact.sha256


def test_another_request_is_handed_over(rung):
    said = rung.predict([RungItem("hello"), RungItem(input={"left": {}, "right": {}}), ITEMS[0]])
    assert rung.outside(said)[:2].all() and said.unread.tolist() == [True, True, False]


@pytest.mark.parametrize("text", ["", "a\0b", "\u202eabc", "👩‍👩‍👧" * 50, "x" * 1_000_000, "1,000.5.6 .. ,", "9" * 400])
def test_any_text_is_answered(rung, text):
    """L8"""
    said = rung.predict(
        [RungItem(input={"left": {"title": text, "price": text}, "right": {"title": "a", "price": "1"}})]
    )
    assert np.isfinite(said.probabilities).all()


def test_it_learns_from_right_and_wrong_alone():
    """Two labels: a verdict is the label; right answers and wrong ones give the same rung as labels."""
    labels = lessons_of(200, 8)
    other = {"Yes": "No", "No": "Yes"}
    verdicts = [one if n % 3 else one._replace(answer=other[one.answer], right=0.0) for n, one in enumerate(labels)]
    a, b = (open_rung(fit("pairs", rows).artefact) for rows in (labels, verdicts))
    assert np.allclose(a.predict(ITEMS).probabilities, b.predict(ITEMS).probabilities, atol=0.05)


def test_too_little_is_refused_by_name():
    with pytest.raises(InvalidRequest, match="labelled pairs"):
        fit("pairs", lessons_of(12, 1))
    assert suits("pairs", [Lesson(RungItem("where is my card"), "card")] * 3)


def test_groups_keep_matched_records_together():
    """§3.3: a record that stands in two matches pulls both into one fold."""
    record = {"title": "drill kx 10", "price": "3"}
    twins = [
        Lesson(RungItem(input={"left": record, "right": {"title": f"drill kx 10 {n}", "price": "3"}}), "Yes")
        for n in range(5)
    ]
    lessons = grouped(twins + lessons_of(100, 2))
    assert len({one.group for one in lessons[:5]}) == 1
    assert len(set(folds_of(lessons[:5], 4, 0).tolist())) == 1


def test_leaks_are_named_before_fitting():
    """L15: an injected cluster id, twin records, a test row in training."""
    lessons = []
    for n, one in enumerate(lessons_of(200, 6)):
        left, right = one.item.input["left"], one.item.input["right"]
        same = one.answer == "Yes"
        item = RungItem(
            input={"left": left | {"cluster_id": str(n)}, "right": right | {"cluster_id": str(n if same else -n - 1)}}
        )
        lessons.append(one._replace(item=item))
    form = learn_form([one.item for one in lessons])
    assert "cluster_id" in id_fields(lessons, form)
    match = next(one for one in lessons if one.answer == "Yes")
    turned = RungItem(input={"left": match.item.input["right"], "right": match.item.input["left"]})
    told = " ".join(leaks(lessons, [lessons[0].item, turned]))
    assert "cluster_id" in told and "training rows" in told and "connected records" in told
    assert leaks(lessons_of(200, 6), [one.item for one in lessons_of(20, 7)]) == []
