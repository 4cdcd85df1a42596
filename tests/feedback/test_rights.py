"""Who may judge an inference that only the database knows."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.store.samples import an_inference

from bessemer.core.access import Principal, Role
from bessemer.core.errors import NotFound
from bessemer.feedback.rights import check_stored
from bessemer.identity.policy import RolePolicy
from bessemer.store.database import Database
from bessemer.store.spool import Spool
from bessemer.store.writer import Writer

ASKED = msgspec.structs.replace(an_inference("inf-1"), key_id="key-asker", project_id="claims")


def key(key_id: str, role: Role, project_id: str = "claims") -> Principal:
    return Principal(key_id=key_id, name=key_id, role=role, project_id=project_id)


@pytest.fixture
def writer(database: Database, tmp_path: Path) -> Iterator[Writer]:
    opened = Writer(database, Spool.open(database, tmp_path / "spool"))
    yield opened
    opened.close()


def may(database: Database, writer: Writer, principal: Principal, inference_id: str = "inf-1") -> bool:
    try:
        check_stored(database.within(principal.project_id), writer, RolePolicy(), inference_id, principal)
    except NotFound as error:
        assert inference_id in error.message
        return False
    return True


def test_the_asker_and_reviewers_of_its_project_may(database: Database, writer: Writer) -> None:
    writer.put(ASKED)  # which may still be on its way
    assert may(database, writer, key("key-asker", Role.APP))
    assert may(database, writer, key("key-person", Role.MEMBER))
    assert not may(database, writer, key("key-other", Role.APP))
    assert not may(database, writer, key("key-asker", Role.APP, "hr"))
    assert not may(database, writer, key("key-person", Role.OWNER, "hr"))
    assert not may(database, writer, key("key-person", Role.OWNER), "inf-2")


def test_a_foreign_inference_is_refused_like_a_missing_one(database: Database, writer: Writer) -> None:
    writer.put(ASKED)
    refusals = []
    for inference_id in ("inf-1", "inf-2"):
        with pytest.raises(NotFound) as refused:
            check_stored(database.within("claims"), writer, RolePolicy(), inference_id, key("key-other", Role.APP))
        refusals.append(refused.value.body())
    assert str(refusals[0]).replace("inf-1", "") == str(refusals[1]).replace("inf-2", "")
