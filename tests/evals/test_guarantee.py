"""One guarantee over several rungs: golden vectors, what is looked at when, refusals, and the sentence."""

import dataclasses
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bessemer.evals.betting import positive_mean
from bessemer.evals.familywise import fixed_sequence, graphical
from bessemer.evals.guarantee import Population, ThresholdChoice, certify
from bessemer.evals.outcomes import ALWAYS, NEVER, Outcomes, TooManyUnscorable, answered_by, cost_of
from bessemer.evals.paired import spent
from bessemer.evals.risk import Error, KeptError, Loss
from bessemer.evals.statistics import binomial_tail
from bessemer.evals.thresholds import ThresholdPlan, pareto_front, plan

Array = npt.NDArray[np.float64]
INF = float("inf")
COST = [1.0, 10.0, 1000.0]


def golden() -> Outcomes:
    """200 items in four groups: (n; p_A, p_B; wrong answers of A, B, C)."""
    confidence, quality = [], []
    for n, p, wrong in (
        (80, (0.95, 0.9), (0, 0, 0)),
        (60, (0.7, 0.9), (6, 1, 1)),
        (40, (0.4, 0.7), (20, 4, 2)),
        (20, (0.4, 0.3), (15, 12, 4)),
    ):
        confidence += [p] * n
        quality += [[float(i >= errors) for errors in wrong] for i in range(n)]
    return Outcomes(np.array(confidence), np.array(quality))


VECTORS = np.array([(INF, INF), (0.9, INF), (0.9, 0.8), (0.9, 0.6), (0.6, 0.6), (0.6, 0.2)])


@pytest.mark.parametrize(
    ("k", "n", "alpha", "p"),
    [
        (0, 45, 0.05, 0.099440),
        (0, 44, 0.05, 0.104674),
        (0, 114, 0.02, 0.099948),
        (1, 100, 0.05, 0.037081),
        (2, 100, 0.05, 0.118263),
        (5, 200, 0.05, 0.062342),
    ],
)
def test_golden_binomial_tails(k: int, n: int, alpha: float, p: float) -> None:
    assert binomial_tail(k, n, alpha) == pytest.approx(p, abs=1e-6)


@pytest.mark.parametrize(
    ("alpha", "delta", "needed"),
    [(0.05, 0.1, (45, 77, 105, 184)), (0.02, 0.1, (114, 194, 265, 462)), (0.05, 0.05, (59,)), (0.02, 0.05, (149,))],
)
def test_golden_items_needed(alpha: float, delta: float, needed: tuple[int, ...]) -> None:
    for errors, n in zip((0, 1, 2, 5), needed, strict=False):
        assert binomial_tail(errors, n, alpha) <= delta < binomial_tail(errors, n - 1, alpha)


def test_golden_path() -> None:
    items, rule = golden(), Error(0.1)
    who = answered_by(items.confidence, VECTORS)
    assert (rule.risk(items, who) * 200).round().tolist() == [7, 7, 7, 9, 14, 22]
    assert cost_of(who, COST).tolist() == pytest.approx([1011, 607, 307, 107, 104, 4])
    p = [rule.p_value(items, who[:, v], 0.1) for v in range(6)]
    assert p == pytest.approx([0.000485, 0.000485, 0.000485, 0.003529, 0.092946, 0.728972], abs=1e-6)
    tested = ThresholdPlan(rule, VECTORS, cost_of(who, COST), rule.risk(items, who), 2, 0.0)
    for delta, chosen in ((0.1, (0.6, 0.6)), (0.05, (0.9, 0.6))):
        choice = certify(tested, items, delta=delta * np.pi**2 / 6)
        assert choice.chosen is not None
        assert choice.chosen.thresholds == chosen
        assert choice.guarantee is not None
        assert choice.guarantee.thresholds == chosen


def test_golden_graphical_procedure() -> None:
    assert graphical([(0.01, 0.04, 0.08, 0.2), (0.03, 0.045)], 0.1) == [3, 2]
    assert graphical([(0.01, 0.06), (0.2,)], 0.1) == [1, 0]
    assert graphical([(0.2,), (0.01,), (0.06,)], 0.15) == [0, 1, 1]
    assert fixed_sequence((0.01, 0.1, 0.2, 0.0), 0.1) == 2
    assert fixed_sequence((), 0.1) == 0


def test_a_family_of_true_hypotheses_is_rejected_no_more_often_than_stated() -> None:
    rng, draws = np.random.default_rng(0), 4000
    wrong = sum(any(graphical(rng.uniform(size=(3, 4)), 0.1)) for _ in range(draws))
    mixed = sum(graphical([(0.0, 0.0), (rng.uniform(), 1.0)], 0.1)[1] > 0 for _ in range(draws))
    for count in (wrong, mixed):
        assert count / draws <= 0.1 + 3 * (0.09 / draws) ** 0.5


@pytest.mark.parametrize(
    ("z", "worst", "p"),
    [
        ([0.1] * 20, 0.9, 0.201724),
        ([0.1] * 10 + [-0.9] + [0.1] * 30, 0.9, 0.165258),
        ([0.02] * 200, 0.98, 0.049182),
    ],
)
def test_golden_betting(z: list[float], worst: float, p: float) -> None:
    assert float(positive_mean(np.array(z), worst, 0.1)) == pytest.approx(p, abs=1e-6)


def test_golden_looks() -> None:
    looks = [spent(0.1, look) for look in range(1, 5)]
    assert looks == pytest.approx([0.060793, 0.015198, 0.006755, 0.003800], abs=1e-6)


# -- made items ----------------------------------------------------------------------------------------------------


def drawn(rng: np.random.Generator, n: int, right: tuple[float, ...] = (0.75, 0.9, 0.97)) -> Outcomes:
    """Items of which some are hard for everybody; rungs are surer of the easy ones."""
    ease = rng.normal(size=n)
    chances = [np.clip(r + 0.15 * ease, 0.02, 0.999) for r in right]
    quality = np.stack([(rng.uniform(size=n) < p).astype(float) for p in chances], axis=1)
    return Outcomes(np.stack(chances[:-1], axis=1), quality)


def cascade(rule: Any, n: int = 1000, seed: int = 0, **more: Any) -> ThresholdChoice:
    rng = np.random.default_rng(seed)
    optimise = drawn(rng, n, **more)
    return certify(plan(rule, optimise, COST, n), drawn(rng, n, **more), delta=0.1, names=("a@1", "b@2", "c@3"))


def test_three_rungs_are_cheaper_than_the_incumbent_and_the_front_falls() -> None:
    rng = np.random.default_rng(3)
    found = plan(Loss(0.03), drawn(rng, 1000), COST, 1000)
    assert (np.diff(found.cost) < 0).all()
    assert (np.diff(found.risk) > 0).all()
    choice = certify(found, drawn(rng, 1000), delta=0.1)
    assert choice.chosen is not None
    assert choice.chosen.shares[-1] < 0.6
    assert sum(choice.chosen.shares) == pytest.approx(1.0)
    assert choice.chosen.accepted_share == pytest.approx(1 - choice.chosen.shares[-1])


@pytest.mark.parametrize("graded", [False, True])
def test_the_guarantee_over_rungs_holds_and_buys_much_of_what_is_possible(graded: bool) -> None:
    rng, alpha, broken, costs = np.random.default_rng(5), 0.03, 0, []
    world = drawn(rng, 100_000)
    known = plan(Loss(alpha), world, COST, 1)
    possible = known.cost[known.risk <= alpha].min()
    for draw in range(60):
        optimise, calibrate = drawn(rng, 700), drawn(rng, 700)
        if graded:
            calibrate = calibrate._replace(quality=np.clip(calibrate.quality, 0.001, 0.999))
        choice = certify(plan(Loss(alpha), optimise, COST, 700), calibrate, delta=0.1, seed=draw)
        chosen = choice.chosen.thresholds if choice.chosen else (None, None)
        who = answered_by(world.confidence, [INF if t is None else t for t in chosen])
        broken += float(Loss(alpha).risk(world, who[:, None])[0]) > alpha
        costs.append(float(cost_of(who[:, None], COST)[0]))
    assert broken <= 6 + 7
    assert np.mean(costs) < (2.2 if graded else 2.0) * possible


def test_pareto_front_keeps_what_nothing_beats() -> None:
    risk, cost = np.array([0.1, 0.2, 0.05, 0.2, 0.1]), np.array([10.0, 5.0, 20.0, 6.0, 10.0])
    assert pareto_front(risk, cost).tolist() == [2, 0, 1]


class Spy(Outcomes):
    """Calibration items that count how often somebody looks at them."""

    looks = 0

    def __getattribute__(self, name: str) -> Any:
        if name in {"confidence", "quality", "terms"}:
            Spy.looks += 1
        return super().__getattribute__(name)


def test_l16_calibration_items_are_untouched_until_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    optimise, kept = drawn(rng, 500), Spy(*drawn(rng, 500))
    Spy.looks = 0
    found = plan(Loss(0.03), optimise, COST, 500)
    assert Spy.looks == 0
    tested: list[int] = []
    own = Loss.p_value

    def spied(self: Loss, items: Outcomes, who: npt.NDArray[np.intp], level: float) -> float:
        tested.append(len(tested))
        return own(self, items, who, level)

    monkeypatch.setattr(Loss, "p_value", spied)
    choice = certify(found, kept, delta=0.1)
    assert Spy.looks > 0
    p = [point.p_value for point in choice.curve]
    passed = sum(one is not None and one <= spent(0.1, 1) for one in p)
    assert len(tested) == min(passed + 1, len(p))
    assert all(one is None for one in p[len(tested) :])


def test_l16_the_plan_is_the_same_whatever_the_calibration_items_are() -> None:
    rng = np.random.default_rng(8)
    optimise = drawn(rng, 300)
    first = plan(Loss(0.03), optimise, COST, 300)
    certify(first, drawn(rng, 300), delta=0.1)
    again = plan(Loss(0.03), optimise, COST, 300)
    assert (first.thresholds == again.thresholds).all()


def test_l22_unscorable_items_are_refused_above_a_twentieth_and_count_as_wrong_below() -> None:
    rng = np.random.default_rng(9)
    items = drawn(rng, 400)
    found = plan(Loss(0.05), items, COST, 400)
    for share, refused in ((0.06, True), (0.04, False)):
        quality = items.quality.copy()
        quality[: int(share * 400), :2] = np.nan
        if refused:
            with pytest.raises(TooManyUnscorable, match=r"6\.0%"):
                certify(found, items._replace(quality=quality), delta=0.1)
            with pytest.raises(TooManyUnscorable, match=r"6\.0%"):
                plan(Loss(0.05), items._replace(quality=quality), COST, 400)
        else:
            choice = certify(found, items._replace(quality=quality), delta=0.1)
            wrong = items.quality.copy()
            wrong[: int(share * 400), :2] = 0.0
            expected = certify(found, items._replace(quality=wrong), delta=0.1)
            assert choice.curve == expected.curve
            assert choice.guarantee is None or "4.00% of them could not be scored" in choice.guarantee.statement


def test_a_rung_that_failed_hands_over_at_every_threshold_and_is_not_unscorable() -> None:
    items = drawn(np.random.default_rng(10), 400)
    confidence, quality = items.confidence.copy(), items.quality.copy()
    confidence[:100, 0], quality[:100, 0] = np.nan, np.nan
    choice = certify(
        plan(Loss(0.05), Outcomes(confidence, quality), COST, 400), Outcomes(confidence, quality), delta=0.1
    )
    assert choice.chosen is not None
    who = answered_by(confidence, [ALWAYS, NEVER])
    assert (who[:100] == 2).all()
    assert (who[100:] == 0).all()


def test_l23_an_incumbent_worse_than_the_best_rung_is_left_out_and_said_so() -> None:
    choice = cascade(Loss(0.02), right=(0.8, 0.95, 0.9))
    assert choice.chosen is not None
    assert choice.chosen.thresholds[1] == ALWAYS
    assert choice.chosen.shares[-1] == 0.0
    assert "ends in b@2" in choice.reason
    assert choice.guarantee is not None
    assert "always asking c@3 and b@2" in choice.guarantee.statement


def test_l24_worthless_rungs_leave_the_incumbent_alone_with_a_reason() -> None:
    rng = np.random.default_rng(11)

    def noise() -> Outcomes:
        right = np.stack([rng.uniform(size=600) < p for p in (0.1, 0.1, 0.95)], axis=1).astype(float)
        return Outcomes(rng.uniform(size=(600, 2)), right)

    for rule in (Loss(0.01), KeptError(0.05), Error(0.05)):
        choice = certify(plan(rule, noise(), COST, 600), noise(), delta=0.1, names=("a", "b", "big"))
        assert choice.chosen is None or choice.chosen.shares[-1] > 0.97
        if choice.chosen is None:
            assert choice.guarantee is None
            assert choice.reason.startswith("big alone: ")


def test_l20_the_statement_can_be_parsed() -> None:
    rng = np.random.default_rng(12)
    choice = certify(
        plan(Loss(0.03, "accuracy"), drawn(rng, 800), COST, 800),
        drawn(rng, 800),
        delta=0.1,
        look=2,
        names=("match@1", "small@2", "gpt-4o"),
        population=Population(
            "requests", "audit stream", "route match", ("2026-11-01", "2026-11-20"), {"small@2": "0", "gpt-4o": "0.7"}
        ),
    )
    assert choice.guarantee is not None
    found = re.search(
        r"Accepting answers of match@1(?: with score >= (?P<a>\S+))?, then of small@2(?: with score >= (?P<b>\S+))?, "
        r"else of gpt-4o: the expected accuracy lost against always asking gpt-4o is at most (?P<alpha>\S+); this "
        r"holds with probability at least (?P<confidence>\S+)% over draws of (?P<n>\d+) calibration items.* "
        r"The items: (?P=n) (?P<unit>requests|distinct inputs) \((?P<filter>[^)]+)\) of (?P<source>[^,]+), recorded "
        r"from (?P<first>\S+) to (?P<last>\S+), answered by small@2 at temperature (?P<t>\S+), gpt-4o at temperature "
        r"(?P<u>[\d.]+)\. At least (?P<floor>\S+)% must be handed over for such a bound\. This is look (?P<look>\d+) "
        r"at them and spends (?P<spent>\S+) of delta (?P<delta>\S+), which all looks share\.",
        choice.guarantee.statement,
    )
    assert found is not None, choice.guarantee.statement
    said = found.groupdict()
    assert (said["alpha"], said["confidence"], said["n"], said["unit"]) == ("0.03", "90", "800", "requests")
    assert (said["filter"], said["first"], said["last"]) == ("audit stream", "2026-11-01", "2026-11-20")
    assert (said["t"], said["u"], said["look"], said["spent"], said["delta"]) == ("0", "0.7", "2", "0.0152", "0.1")
    assert choice.guarantee.delta_spent == pytest.approx(0.0151982, abs=1e-6)
    assert float(said["floor"]) == pytest.approx(100 * (choice.guarantee.floor or 0), abs=0.01)
    assert [float(said["a"]), float(said["b"])] == pytest.approx(choice.guarantee.thresholds, rel=1e-5)


def test_l21_twenty_looks_at_one_set_break_no_more_than_stated() -> None:
    """Twenty made-up cascades, each just bad enough, on the same items: the best that passes is used."""
    rng, broken, draws, n = np.random.default_rng(13), 0, 300, 300
    for _ in range(draws):
        for look in range(1, 21):
            wrong = int((rng.uniform(size=n) < 0.05).sum())
            if binomial_tail(wrong, n, 0.05) <= spent(0.1, look):
                broken += 1
                break
    assert broken / draws <= 0.1


def test_audited_items_of_known_chances_speak_of_all_requests() -> None:
    """Hard items are audited ten times as often; unweighted they would count ten times."""
    rng = np.random.default_rng(14)
    hard = rng.uniform(size=40_000) < 0.1
    asked = rng.uniform(size=40_000) < np.where(hard, 0.1, 0.01)
    right = np.where(hard, rng.uniform(size=40_000) < 0.5, 1.0)
    quality = np.stack([right, np.ones(40_000)], axis=1)[asked]
    weights = (0.01 / np.where(hard, 0.1, 0.01))[asked]
    items = Outcomes(np.full((int(asked.sum()), 1), 0.9), quality, weights=weights)
    everything = np.zeros((items.n, 1), dtype=np.intp)
    assert Loss(0.1).risk(items, everything)[0] == pytest.approx(0.05, abs=0.015)
    assert Loss(0.1).risk(items._replace(weights=None), everything)[0] > 0.2
    assert Loss(0.1).p_value(items, everything[:, 0], 0.1) < 0.2
    assert Loss(0.1).p_value(items._replace(weights=None), everything[:, 0], 0.1) > 0.5


def test_several_references_are_each_kept() -> None:
    items = drawn(np.random.default_rng(15), 500, right=(0.7, 0.95, 0.9))
    who = np.zeros(500, dtype=np.intp)
    p = [Loss(0.1, references=one).p_value(items, who, 0.1) for one in ((-1,), (1,), (-1, 1))]
    assert p[2] == max(p)
    assert dataclasses.replace(Loss(0.1), references=(1,)).risk(items, who[:, None])[0] > 0.1


def test_bad_items_are_refused() -> None:
    good = golden()
    found = plan(Error(0.1), good, COST, 200)
    for bad in (
        good._replace(quality=good.quality[:, :2]),
        good._replace(quality=good.quality * 2),
        good._replace(confidence=np.full((200, 2), INF)),
        good._replace(confidence=good.confidence[:, :1], quality=good.quality[:, 1:]),
        good._replace(weights=np.full(200, 2.0)),
        Outcomes(np.zeros((0, 2)), np.zeros((0, 3))),
    ):
        with pytest.raises(ValueError, match=r"\w{4}"):
            certify(found, bad, delta=0.1)
