"""The journal: what was appended is read back, whoever owned it."""

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bessemer.store.journal import Segment, orphans


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.binary().filter(lambda line: b"\n" not in line)), torn=st.binary(max_size=20))
def test_lines_come_back_in_order_without_a_torn_end(tmp_path: Path, lines: list[bytes], torn: bytes) -> None:
    segment = Segment.create(tmp_path)
    for line in lines:
        segment.append(line)
    with segment.path.open("ab") as target:
        target.write(torn.replace(b"\n", b""))
    assert list(segment.lines()) == lines
    segment.remove()


def test_a_segment_has_one_owner(tmp_path: Path) -> None:
    owned = Segment.create(tmp_path)
    owned.append(b"x")
    assert orphans(tmp_path) == []
    owned.close()
    (adopted,) = orphans(tmp_path)
    assert list(adopted.lines()) == [b"x"]
    assert orphans(tmp_path) == []
    adopted.remove()
    assert orphans(tmp_path) == []
