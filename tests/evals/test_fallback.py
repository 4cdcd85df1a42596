"""The ladder of actions: down by an alarm, up by evidence, all in the audit."""

from bessemer.evals.fallback import (
    SILENT_AFTER,
    ActionRecord,
    DriftEvent,
    FallbackAction,
    FallbackState,
    RungState,
    is_silent,
    step,
)


def walk(*events: DriftEvent, rung: str = "a@1") -> tuple[FallbackState, list[ActionRecord]]:
    state = FallbackState({"a@1": RungState((0.8, 0.9)), "b@2": RungState((0.6,))})
    history: list[ActionRecord] = []
    for at, event in enumerate(events):
        state, record = step(state, event, rung, float(at), history)
        history += [record] if record else []
    return state, history


def test_l25_alarms_raise_then_switch_off_then_leave_the_incumbent_alone() -> None:
    state, history = walk(*[DriftEvent.ALARM] * 4)
    assert [one.after for one in history] == [FallbackAction.RAISED, FallbackAction.OFF, FallbackAction.INCUMBENT]
    assert state.incumbent_only
    assert state.action("b@2") is FallbackAction.INCUMBENT
    state, _ = walk(DriftEvent.ALARM)
    assert state.rungs["a@1"].threshold == 0.9
    assert state.rungs["b@2"].threshold == 0.6


def test_l25_recovery_goes_back_step_by_step_and_is_audited_with_its_time() -> None:
    down = [DriftEvent.ALARM] * 3
    state, history = walk(*down, DriftEvent.RECOVERED, DriftEvent.RECOVERED, DriftEvent.RECOVERED, DriftEvent.RECOVERED)
    assert [one.after for one in history[3:]] == [FallbackAction.OFF, FallbackAction.RAISED, FallbackAction.NONE]
    assert [one.since for one in history] == [None, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert state == FallbackState({"a@1": RungState((0.8, 0.9)), "b@2": RungState((0.6,))})


def test_recalibration_ends_it_at_once_and_silence_is_an_alarm() -> None:
    state, history = walk(DriftEvent.SILENT, DriftEvent.ALARM, DriftEvent.RECALIBRATED)
    assert [one.after for one in history] == [FallbackAction.RAISED, FallbackAction.OFF, FallbackAction.NONE]
    assert state.rungs["a@1"].threshold == 0.8


def test_silence_begins_after_a_week_without_verdicts() -> None:
    assert not is_silent(None, 100.0, 100.0 + SILENT_AFTER)
    assert is_silent(None, 100.0, 101.0 + SILENT_AFTER)
    assert not is_silent(200.0, 100.0, 150.0 + SILENT_AFTER)
