"""Feedback as it arrives: its kind, its checks, committed at once, also for inferences still being written."""

from pathlib import Path

import msgspec
import pytest

from bessemer.core.access import Principal, Role
from bessemer.core.errors import InvalidRequest
from bessemer.core.feedback import FeedbackKind, FeedbackSource
from bessemer.core.ids import new_id
from bessemer.core.wire import FeedbackRequest
from bessemer.feedback.record import parse
from bessemer.store import feedback
from bessemer.store.database import Database
from bessemer.store.spool import Spool
from bessemer.store.writer import Writer

PRINCIPAL = Principal(key_id="key-test", name="test", role=Role.APP)


def request(**fields: object) -> FeedbackRequest:
    values = {"metric": "verdict", "value": True, "inference_id": new_id("inf"), **fields}
    return FeedbackRequest(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metric", "value", "kind"),
    [
        ("verdict", False, FeedbackKind.BOOLEAN),
        ("helpful", True, FeedbackKind.BOOLEAN),
        ("stars", 4.5, FeedbackKind.FLOAT),
        ("comment", "too long", FeedbackKind.COMMENT),
        ("demonstration", "No", FeedbackKind.DEMONSTRATION),
    ],
)
def test_metric_and_value_say_the_kind(metric, value, kind):
    row = parse(request(metric=metric, value=value), PRINCIPAL, 5.0, reviewer=False)
    assert (row.kind, row.value, row.created_at, row.key_id) == (kind, value, 5.0, "key-test")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"inference_id": None}, "inference_id"),
        ({"episode_id": "ep-1"}, "inference_id"),
        ({"inference_id": "chatcmpl-1"}, "inference_id"),
        ({"metric": ""}, "metric"),
        ({"metric": "verdict", "value": 1.0}, "value"),
        ({"metric": "stars", "value": "five"}, "value"),
        ({"metric": "stars", "value": float("nan")}, "value"),
        ({"metric": "demonstration", "value": True}, "value"),
        ({"trust": 1.5}, "trust"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(fields, param):
    with pytest.raises(InvalidRequest) as refusal:
        parse(request(**fields), PRINCIPAL, 0.0, reviewer=False)
    assert refusal.value.param == param


async def test_feedback_is_in_the_database_when_it_is_answered(tmp_path: Path, sqlite_database: Database):
    writer = Writer(sqlite_database, Spool.open(sqlite_database, tmp_path / "spool"))
    row = parse(request(tags={"batch": "1"}), PRINCIPAL, 5.0, reviewer=False)
    await writer.commit(row)
    assert feedback.get(sqlite_database, row.id) == row
    writer.close()


@pytest.mark.parametrize("role", [Role.APP, Role.MEMBER])
@pytest.mark.parametrize("claimed", [None, *FeedbackSource])
def test_author_trust_and_standing_are_the_keys_and_claims_are_kept_as_claims(role, claimed):
    key = Principal(key_id="key-1", name="portal", role=role, trust=0.7, project_id="claims")
    row = parse(request(author="chief.risk.officer", trust=1.0, source=claimed), key, 0.0, reviewer=role is Role.MEMBER)
    assert (row.author, row.trust, row.key_id, row.project_id) == ("portal", 0.7, "key-1", "claims")
    assert (row.claimed_author, row.claimed_trust, row.claimed_source) == ("chief.risk.officer", 1.0, claimed)
    assert row.reviewer is (role is Role.MEMBER)
    if role is Role.APP:
        assert row.source is not FeedbackSource.HUMAN
    else:
        assert row.source is (claimed or FeedbackSource.HUMAN)


def test_a_completions_own_id_names_its_inference() -> None:
    inference_id = new_id("inf")
    given = {"metric": "verdict", "value": True, "inference_id": inference_id.replace("inf-", "chatcmpl-")}
    assert msgspec.convert(given, FeedbackRequest).inference_id == inference_id
    assert parse(request(**given), PRINCIPAL, 5.0, reviewer=False).inference_id == inference_id
