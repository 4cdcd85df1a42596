"""The ledger of looks: what counts as another look at the same items."""

from bessemer.store import looks
from bessemer.store.database import Database
from bessemer.store.looks import Look, Purpose

ITEMS = [f"{i:032x}" for i in range(300)]


def look(name: str, subject: str | None = "v", purpose: Purpose = Purpose.GATE, others: tuple[str, ...] = ()) -> Look:
    return Look(id=name, created_at=1.0, purpose=purpose, subject=subject, others=others)


def test_each_gate_and_cascade_counts_whatever_it_is_about(database: Database) -> None:
    assert looks.number(database, look("a", "v1"), ITEMS) == 1
    assert looks.number(database, look("b", "v2"), ITEMS) == 2
    assert looks.number(database, look("c", "v1", Purpose.CASCADE), ITEMS) == 3


def test_a_job_that_is_repeated_looks_once(database: Database) -> None:
    assert [looks.number(database, look("a"), ITEMS) for _ in range(3)] == [1, 1, 1]
    assert looks.number(database, look("b"), ITEMS) == 2


def test_items_are_the_same_in_whichever_dataset_and_fresh_ones_open_a_line(database: Database) -> None:
    looks.number(database, look("a"), ITEMS[:200])
    assert looks.number(database, look("grown"), ITEMS) == 2
    assert looks.number(database, look("part"), ITEMS[:20]) == 3
    assert looks.number(database, look("fresh", "w"), [f"f{i:031x}" for i in range(200)]) == 1
    assert looks.number(database, look("one-in-common", "x"), [ITEMS[0], *(f"e{i:031x}" for i in range(200))]) == 1


def test_versions_whose_scores_were_read_without_a_gate_count_once_each(database: Database) -> None:
    looks.number(database, look("scores", None, Purpose.SCORES, ("v1", "v2", "v3")), ITEMS)
    looks.number(database, look("again", None, Purpose.SCORES, ("v1", "v2")), ITEMS)
    assert looks.number(database, look("best", "v3"), ITEMS) == 3
    assert looks.number(database, look("beside", "v4", others=("v5",)), ITEMS) == 5


def test_scores_that_are_read_piece_by_piece_are_read(database: Database) -> None:
    for number, start in enumerate(range(0, 300, 10)):
        piece = ITEMS[start : start + 10]  # a thirtieth of the items, too little to be a look at all of them
        looks.number(database, look(f"p{number}", None, Purpose.SCORES, (f"v{number % 3}",)), piece)
    looks.number(database, look("little", None, Purpose.SCORES, ("w",)), ITEMS[:10])
    assert looks.number(database, look("best", "v1"), ITEMS) == 3


def test_a_candidate_is_not_tried_on_slice_after_slice(database: Database) -> None:
    slices = [ITEMS[start : start + 100] for start in (0, 100, 200)]
    assert [looks.number(database, look(f"s{i}", "v"), part) for i, part in enumerate(slices)] == [1, 2, 3]
    assert looks.number(database.within("other"), look("theirs", "v"), slices[0]) == 1
    assert looks.number(database, look("cascade", "v", Purpose.CASCADE), [f"f{i:031x}" for i in range(200)]) == 1
