"""The planner's outer split: whole groups, by the hash of their names, known again by their rows."""

import msgspec
import pytest

from lab.planner import outer_split
from lab.planner.outer_split import OuterSplit, digest_of, draw, group_of, split

ROWS = [
    {"model_path": "nvidia/DeepSeek-R1-NVFP4", "system": "b200_sxm", "silicon_tpot_ms": "8"},
    {"model_path": "deepseek-ai/DeepSeek-V3", "system": "b200_sxm", "silicon_tpot_ms": "9"},
    {"model_path": "Qwen/Qwen3-32B", "system": "h100_sxm", "silicon_tpot_ms": "7"},
]


def test_checkpoints_of_one_architecture_are_one_group():
    assert [group_of(row) for row in ROWS] == ["deepseek-v3 on b200_sxm"] * 2 + ["qwen3-32b on h100_sxm"]
    with pytest.raises(KeyError, match="ARCHITECTURES"):
        group_of({"model_path": "someone/new", "system": "b200_sxm"})


def test_a_quarter_of_the_dense_and_of_the_other_groups_is_drawn_whatever_their_order():
    groups = [f"{name} on gpu{n}" for name in ("llama-8b", "kimi-k2") for n in range(8)]
    drawn = draw(groups)
    assert sorted(name.split(" ")[0] for name in drawn) == ["kimi-k2"] * 2 + ["llama-8b"] * 2
    assert draw(reversed(groups)) == drawn
    assert draw(groups, salt="another") != drawn


def test_the_sealed_rows_are_kept_out_and_no_others_pass_for_them(tmp_path, monkeypatch):
    sealed = ("deepseek-v3 on b200_sxm",)
    made = OuterSplit("rows.csv", "s", 0.5, sealed, 2, digest_of(ROWS[:2]))
    (tmp_path / "split.json").write_bytes(msgspec.json.encode(made))
    monkeypatch.setattr(outer_split, "LIST", tmp_path / "split.json")
    assert split(ROWS) == (ROWS[2:], ROWS[:2])
    assert split(list(reversed(ROWS))) == (ROWS[2:], [ROWS[1], ROWS[0]])
    with pytest.raises(ValueError, match="not those that were sealed"):
        split([{**ROWS[0], "silicon_tpot_ms": "7"}, *ROWS[1:]])
