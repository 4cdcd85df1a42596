"""The committee: its members together, one probability; better informed than each where they know different things."""

import numpy as np
import pytest

from bessemer.cli.demo import offers
from bessemer.core.errors import EngineError, InvalidRequest
from bessemer.engine.rungs import artefact
from bessemer.engine.rungs.committee import evidence, stack
from bessemer.engine.rungs.kinds import open_rung
from bessemer.engine.rungs.rung import RungItem
from bessemer.ladder.fit import fit
from bessemer.ladder.lessons import Lesson
from bessemer.ladder.task import FittedMember


def lessons_of(count, seed):
    return [Lesson(RungItem(input=pair.input), pair.answer) for pair in offers.generate(count, seed)]


LESSONS = lessons_of(240, 3)


@pytest.fixture(scope="module")
def members():
    return [fit(kind, LESSONS, positive="Yes") for kind in ("rules", "linear", "pairs")]


@pytest.fixture(scope="module")
def committee(members):
    told = [FittedMember(one.artefact, one.out_of_fold) for one in members]
    return fit("committee", LESSONS, positive="Yes", members=told)


def loss(made):
    rows = np.isfinite(made.out_of_fold).all(axis=1) & (made.truth >= 0)
    return -np.log(np.maximum(made.out_of_fold[rows, made.truth[rows]], 1e-9)).mean()


def test_it_is_no_worse_than_its_best_member(members, committee):
    """Out of fold, the stack included: each lesson by numbers that were learned without its group."""
    assert loss(committee) <= min(map(loss, members)) + 0.01


def test_one_call_answers_from_the_artefact_alone(tmp_path, committee):
    artefact.write(committee.artefact, tmp_path)
    rung = open_rung(artefact.read(tmp_path, sha256=committee.artefact.sha256))
    items = [one.item for one in lessons_of(40, 9)]
    said = rung.predict(items)
    assert said.probabilities.sum(axis=1) == pytest.approx(np.ones(40))
    assert np.array_equal(said.probabilities, open_rung(committee.artefact).predict(items).probabilities)


def test_members_are_fitted_when_none_are_given():
    made = fit("committee", LESSONS, positive="Yes")
    assert set(made.artefact.manifest.lineage["members"]) <= {"rules", "linear", "pairs"}


def test_it_hands_over_what_any_member_was_not_made_for(committee):
    rung = open_rung(committee.artefact)
    said = rung.predict([RungItem("hello"), RungItem(input={"left": {}, "right": {}})])
    assert rung.outside(said).all()


def test_a_member_that_reads_nothing_has_no_say():
    told = np.array([[[0.9, 0.1]], [[0.5, 0.5]]])
    numbers = np.array([1.0, 1.0, 0.5, 0.5, 0.0, 0.0])
    alone = stack(told[:1], np.array([[True]]), np.array([1.0, 0.5, 0.0, 0.0]))
    assert stack(told, np.array([[True], [False]]), numbers) == pytest.approx(alone)


def test_agreement_is_evidence():
    agree, split = np.array([[[0.8, 0.2]], [[0.7, 0.3]]]), np.array([[[0.8, 0.2]], [[0.3, 0.7]]])
    read = np.ones((2, 1), bool)
    assert evidence(agree, read)[-2].tolist() == [[1, 0]] and evidence(split, read)[-2].tolist() == [[0, 0]]


def test_fewer_than_two_members_members_of_other_lessons_and_committees_inside_are_refused(members, committee):
    one = FittedMember(members[1].artefact, members[1].out_of_fold)
    with pytest.raises(InvalidRequest, match="two rungs"):
        fit("committee", LESSONS, members=[one])
    with pytest.raises(InvalidRequest, match="same lessons"):
        fit("committee", LESSONS[:100], members=[one, one])
    told = committee.artefact.manifest.parameters
    inside = {**told, "members": [{**told["members"][0], "kind": "committee"}, *told["members"][1:]]}
    with pytest.raises(EngineError, match="no member"):
        open_rung(artefact.changed(committee.artefact, parameters=inside))
    with pytest.raises(EngineError, match="belong to no member"):
        open_rung(artefact.changed(committee.artefact, parameters={**told, "members": told["members"][:1]}))


def test_equal_lessons_make_equal_artefacts():
    """L9"""
    lessons = lessons_of(80, 7)
    assert fit("committee", lessons).artefact.sha256 == fit("committee", lessons[::-1]).artefact.sha256
