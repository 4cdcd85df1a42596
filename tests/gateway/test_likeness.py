"""Near-duplicates of opposite meaning must not be taken for each other; paraphrases that keep every sense may."""

import pytest

from bessemer.gateway.likeness import may_be_alike
from lab.near_duplicates import SAME, TURNED, pairs


@pytest.mark.parametrize(("left", "right"), pairs(TURNED))
def test_a_turned_meaning_is_another_question(left: str, right: str) -> None:
    assert not may_be_alike(left, right)
    assert not may_be_alike(right, left)


@pytest.mark.parametrize(("left", "right"), pairs(SAME))
def test_a_paraphrase_may_be_the_same(left: str, right: str) -> None:
    assert may_be_alike(left, right)
    assert may_be_alike(right, left)
