"""Active feedback: a reproducible audit, what a query is worth, and that neither stream serves the other's purpose."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.feedback import Asked, Stream
from bessemer.evals.asking import disagreement, queries, query_score, uses
from bessemer.gateway.cascade import audited


def test_the_audit_draws_its_share_the_same_again_and_says_with_what_chance() -> None:
    ids = [f"inference-{i}" for i in range(20_000)]
    drawn = [audited(one, 0.02) for one in ids]
    found = [one for one in drawn if one is not None]
    assert abs(len(found) / 20_000 - 0.02) < 4 * (0.02 * 0.98 / 20_000) ** 0.5
    assert set(found) == {Asked(Stream.AUDIT, 0.02)}
    assert [audited(one, 0.02) for one in ids] == drawn
    wider = [audited(one, 0.05) for one in ids]
    assert all(more is not None for one, more in zip(drawn, wider, strict=True) if one is not None)
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="share"):
            audited("x", share)


@given(st.lists(st.sampled_from(["audit", "audit rare", "query", None]), max_size=30))
def test_l28_audited_rows_are_never_fitted_on_and_queried_ones_never_measured_on(kinds: list[str | None]) -> None:
    rows = [
        None if kind is None else Asked(Stream(kind.split()[0]), {"audit": 0.05, "audit rare": 0.01}.get(kind, 1.0))
        for kind in kinds
    ]
    found = uses(rows)
    assert sorted([*found.fitting.tolist(), *found.measuring.tolist()]) == list(range(len(rows)))
    for place in found.fitting.tolist():
        row = rows[place]
        assert row is None or row.stream is Stream.QUERY
    least = min((row.chance for row in rows if row and row.stream is Stream.AUDIT), default=1.0)
    for place, weight in zip(found.measuring.tolist(), found.weights.tolist(), strict=True):
        row = rows[place]
        assert row is not None
        assert row.stream is Stream.AUDIT
        assert weight == pytest.approx(least / row.chance)


def test_weighted_audits_speak_of_all_traffic() -> None:
    rng = np.random.default_rng(0)
    hard = rng.uniform(size=50_000) < 0.1
    wrong = hard & (rng.uniform(size=50_000) < 0.5)
    rows = [audited(str(i), 0.2 if one else 0.02) for i, one in enumerate(hard)]
    found = uses(rows)
    measured = np.average(wrong[found.measuring], weights=found.weights)
    assert measured == pytest.approx(wrong.mean(), abs=0.015)
    assert wrong[found.measuring].mean() > 0.15


def test_a_query_is_worth_what_it_would_save() -> None:
    score = query_score([0.9, 0.9, 0.1], [2.0, 1.0, 2.0], [1.0, 1.0, 1.0])
    assert score.argsort()[::-1].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="chances"):
        query_score([1.1], [1.0], [1.0])


def test_disagreement_of_a_committee() -> None:
    found = disagreement([[1, 1, 1], [1, 1, 2], [1, 2, 3]])
    assert found[0] == 0.0
    assert 0 < found[1] < found[2]
    assert found[2] == pytest.approx(1.0)
    assert disagreement([[1], [2]]).tolist() == [0.0, 0.0]


def test_queries_take_the_best_of_each_cluster_within_the_budget_and_not_what_is_audited() -> None:
    scores, clusters = [0.9, 0.8, 0.7, 0.6, 0.0], [1, 1, 2, 3, 4]
    assert queries(scores, clusters, 10) == [0, 2, 3]
    assert queries(scores, clusters, 2) == [0, 2]
    assert queries(scores, clusters, 10, taken=[0]) == [1, 2, 3]
    assert queries([], [], 3) == []
