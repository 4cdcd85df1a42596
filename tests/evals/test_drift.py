"""The drift monitor: few false alarms, fast true ones, and a state that is a replay of its log."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.evals.drift import ALARM, NOTHING, STAKES, AuditedLoss, LossMonitor, OutcomeMonitor, Wealth, replay

ALPHA = 0.02


def alarms(rng: np.random.Generator, loss: float, n: int, runs: int, before: int = 0, at: float = ALPHA) -> np.ndarray:
    """When each of the runs raises its alarm, in audited requests after the change; n: never."""
    wealth, first = Wealth(np.zeros((runs, len(STAKES)))), np.full(runs, n)
    for t in range(before + n):
        wrong = rng.uniform(size=runs) < (loss if t >= before else at / 2)
        wealth = wealth.after(wrong - ALPHA, 1 / ALPHA)
        rich = wealth.total >= 1 / ALARM
        first = np.where(rich & (first == n), t - before, first)
    return first


def test_the_monitor_is_the_wealth_of_its_gains() -> None:
    monitor, wealth = LossMonitor(ALPHA), NOTHING
    for i, loss in enumerate((0.0, 1.0, 0.5)):
        monitor.add(AuditedLoss(str(i), loss))
        wealth = wealth.after(loss - ALPHA, 1 / ALPHA)
    assert monitor.wealth == pytest.approx(float(wealth.total))
    assert monitor.n == 3


def test_l25_loss_of_a_fifth_alarms_within_a_hundred_audited_requests() -> None:
    rng = np.random.default_rng(0)
    assert np.mean(alarms(rng, 0.2, 100, 400) < 100) > 0.97
    assert np.mean(alarms(rng, 0.2, 100, 400, before=2000) < 100) > 0.75


def test_l25_loss_of_a_twentieth_alarms_within_a_thousand() -> None:
    rng = np.random.default_rng(1)
    found = alarms(rng, 0.05, 1000, 400)
    assert np.median(found) < 600
    assert np.mean(found < 1000) > 0.85


def test_l25_false_alarms_at_the_bound_are_rare() -> None:
    """At a loss of exactly alpha, the hardest case that is still promised."""
    rng = np.random.default_rng(2)
    assert np.mean(alarms(rng, ALPHA, 3000, 1500) < 3000) <= ALARM + 3 * (ALARM / 1500) ** 0.5


@pytest.mark.long
def test_l25_false_alarms_over_a_hundred_thousand_looks() -> None:
    rng = np.random.default_rng(3)
    assert np.mean(alarms(rng, ALPHA, 100_000, 1000) < 100_000) <= ALARM


def test_a_thousand_wrong_answers_are_no_overflow() -> None:
    monitor = replay(LossMonitor(0.001), [AuditedLoss(str(i), 1.0) for i in range(1000)])
    assert np.isfinite(monitor.wealth)
    assert monitor.alarm is not None
    assert monitor.alarm.event < 10


EVENTS = st.lists(
    st.builds(
        AuditedLoss,
        id=st.sampled_from([f"i{i}" for i in range(8)]),
        loss=st.sampled_from([0.0, 0.3, 1.0, None]),
        chance=st.just(1.0),
    ),
    max_size=60,
)


@settings(max_examples=60)
@given(EVENTS, st.integers(0, 60))
def test_l27_the_monitor_equals_a_replay_of_its_log_after_a_restart(events: list[AuditedLoss], at: int) -> None:
    """Delayed, doubled, corrected and retracted verdicts; a restart in the middle reads the log again."""
    running = replay(LossMonitor(ALPHA), events[:at])
    log = msgspec.json.decode(msgspec.json.encode(events[:at]), type=list[AuditedLoss])
    restarted = replay(LossMonitor(ALPHA), log)
    for event in events[at:]:
        running.add(event)
        restarted.add(event)
    again = replay(LossMonitor(ALPHA), events)
    assert running.wealth == restarted.wealth == again.wealth
    assert running.alarm == restarted.alarm == again.alarm
    assert running.n == len({e.id for i, e in enumerate(events) if e.loss is not None and _last(events, i)})


def _last(events: list[AuditedLoss], i: int) -> bool:
    return all(later.id != events[i].id for later in events[i + 1 :])


def test_l27_duplicates_count_once_and_what_is_retracted_is_as_if_it_had_not_come() -> None:
    kept = [AuditedLoss("a", 0.0), AuditedLoss("b", 1.0), AuditedLoss("c", 0.0)]
    noisy = [*kept[:2], kept[1], AuditedLoss("x", 1.0), kept[2], AuditedLoss("x", None), AuditedLoss("never", None)]
    assert replay(LossMonitor(ALPHA), noisy).wealth == replay(LossMonitor(ALPHA), kept).wealth
    corrected = [AuditedLoss("b", 0.0), kept[0], kept[1]]
    assert replay(LossMonitor(ALPHA), corrected).wealth == replay(LossMonitor(ALPHA), kept[:2]).wealth


def test_an_alarm_stays_whatever_is_retracted() -> None:
    monitor = replay(LossMonitor(ALPHA), [AuditedLoss(str(i), 1.0) for i in range(9)])
    assert monitor.alarm is not None
    for i in range(9):
        monitor.add(AuditedLoss(str(i), None))
    assert monitor.wealth == 1.0
    assert monitor.alarm is not None


def test_rarely_audited_requests_weigh_more() -> None:
    often, seldom = (LossMonitor(ALPHA, least_chance=0.01) for _ in range(2))
    often.add(AuditedLoss("a", 1.0, chance=0.1))
    seldom.add(AuditedLoss("a", 1.0, chance=0.01))
    assert seldom.wealth > often.wealth > 1


def test_an_outcome_that_diverges_from_its_prediction_is_noticed_on_either_side() -> None:
    rng = np.random.default_rng(4)
    for shift, expected in ((8.0, "above"), (-8.0, "below"), (0.0, None)):
        monitor = OutcomeMonitor(0.0, 100.0, 3.0)
        for i in range(1500):
            predicted = rng.uniform(30, 70)
            monitor.add(str(i), predicted, predicted + shift + rng.normal(scale=10))
        assert monitor.alarm == expected


def test_values_out_of_range_are_refused() -> None:
    monitor = LossMonitor(ALPHA, least_chance=0.02)
    for event in (AuditedLoss("a", 1.5), AuditedLoss("a", -0.1), AuditedLoss("a", 0.5, 0.01), AuditedLoss("a", np.nan)):
        with pytest.raises(ValueError, match="lies in"):
            monitor.add(event)
    with pytest.raises(ValueError, match="monitor needs"):
        LossMonitor(0.0)
    with pytest.raises(ValueError, match="outcome needs"):
        OutcomeMonitor(1.0, 1.0, 0.1)
