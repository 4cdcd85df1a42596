"""Keys take turns."""

from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.types import JobStatus
from bessemer.jobs.queue import Turns
from bessemer.store.job_rows import JobRow


def job(number: int, key: str | None) -> JobRow:
    return JobRow(
        id=f"job-{number:04}", kind="slow", request={}, status=JobStatus.QUEUED, created_at=float(number), key_id=key
    )


def order(rows: list[JobRow]) -> list[JobRow]:
    turns, waiting, chosen = Turns(), list(rows), []
    while (row := turns.choose(waiting)) is not None:
        waiting.remove(row)
        chosen.append(row)
    return chosen


def test_two_hundred_jobs_of_one_key_hold_anothers_back_by_one() -> None:
    rows = [job(number, "many") for number in range(200)] + [job(200, "one"), job(201, "one")]
    chosen = order(rows)
    assert [row.key_id for row in chosen[:4]] == ["many", "one", "many", "one"]
    assert len(chosen) == 202


def test_a_newcomer_is_next() -> None:
    turns = Turns()
    rows = [job(number, key) for number, key in enumerate("aabb")]
    for _ in range(3):
        rows.remove(turns.choose(rows))
    rows.append(job(9, "new"))
    assert turns.choose(rows) == rows[-1]


@given(st.lists(st.sampled_from([None, "a", "b", "c"]), max_size=40))
def test_every_job_has_its_turn_in_the_order_of_its_key_and_no_key_waits_for_more_than_the_others(
    keys: list[str | None],
) -> None:
    rows = [job(number, key) for number, key in enumerate(keys)]
    chosen = order(rows)
    assert sorted(row.id for row in chosen) == [row.id for row in rows]
    for key in set(keys):
        mine = [place for place, row in enumerate(chosen) if row.key_id == key]
        assert [chosen[place].created_at for place in mine] == sorted(chosen[place].created_at for place in mine)
        gaps = [after - before for before, after in zip([-1, *mine], mine, strict=False)]
        assert max(gaps) <= len(set(keys))
