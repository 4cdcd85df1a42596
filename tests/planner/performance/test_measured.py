"""Reading and screening measured rows: sizes put right, and each rule fires on what it is for."""

from pathlib import Path

import msgspec
import pytest

from bessemer.core.errors import ConfigError
from bessemer.planner.catalog import Catalog
from bessemer.planner.performance.measured import Row, read_measured
from bessemer.planner.performance.screen import screen
from bessemer.planner.types import Deployment, Engine, Precision

HEADER = (
    "id,silicon_data_source,backend,backend_version,model_path,system,precision,mode,isl,osl,batch_size,tp_size,"
    "attention_dp_size,moe_tp_size,moe_ep_size,decode_batch_size,decode_tp_size,decode_attention_dp_size,"
    "decode_moe_tp_size,decode_moe_ep_size,silicon_ttft_ms,silicon_tpot_ms\n"
)


def write(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(HEADER + "".join(line + "\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ("16,1,4,4", (4, 1, 4)),  # a dump that wrote tp x ep
        ("64,1,8,8", (8, 1, 8)),
        ("1,64,8,8", (1, 8, 8)),  # dp x ep
        ("4,4,1,16", (1, 4, 4)),
        ("8,1,8,1", (8, 1, 1)),
        ("1,8,1,8", (1, 8, 8)),
    ],
)
def test_parallel_sizes_of_dumps_are_put_right(tmp_path: Path, sizes: str, expected: tuple[int, int, int]) -> None:
    line = (
        "a,source_file=2026-04-06.csv; silicon_concurrency=32; measured=2026-01-20T00:00:00Z,trtllm,1.2,"
        f"deepseek-ai/DeepSeek-R1,b200_sxm,fp4,agg,1024,1024,32,{sizes},,,,,,100,10"
    )
    (row,), bad = read_measured(write(tmp_path, line))
    assert not bad
    assert (row.deployment.tp, row.deployment.dp, row.deployment.ep) == expected
    assert (row.concurrency, row.ttft_s, row.tpot_s, row.date) == (32, 0.1, 0.01, "2026-01-20")


def test_rows_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    unknown = "b,x,vllm,1,acme/Nobody-9B,h100_sxm,fp8,agg,8,8,1,1,1,1,1,,,,,,1,1"
    lost = "c,x,vllm,1,openai/gpt-oss-120b,h100_sxm,fp8,disagg,8,8,,,,,,,8,1,8,1,1,1"
    rows, bad = read_measured(write(tmp_path, unknown, lost))
    assert not rows
    assert [b.id for b in bad] == ["b", "c"]
    assert "no shape known" in bad[0].reason
    assert "decode workers" in bad[1].reason


def test_half_a_row_is_named(tmp_path: Path) -> None:
    rows, bad = read_measured(write(tmp_path, "d,x,vllm,1,openai/gpt-oss-120b,h100_sxm,fp8,agg,8,8,1,1,1,1,1"))
    assert (rows, [b.id for b in bad]) == ((), ["d"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"id,latency\n1,2\n", "columns missing: silicon_data_source, backend"),
     (HEADER.replace("tp_size,", "", 1).encode(), "columns missing: tp_size"), (b"\xff\xfe\x00", "Cannot read"),
     (HEADER.encode() + b"0" * 200_000, "Cannot read")],
)  # fmt: skip
def test_a_file_of_another_format_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "other.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        read_measured(path)


def row(name: str, **changes: object) -> Row:
    deployment = Deployment("Llama-3.1-70B", "h200_sxm", Engine.VLLM, "0.10", Precision.FP8, tp=4)
    plain = Row(
        id=name,
        mode="agg",
        model="Llama-3.1-70B",
        deployment=deployment,
        isl=1024,
        osl=1024,
        concurrency=16,
        ttft_s=0.2,
        tpot_s=0.015,
        version="0.10",
        date="2026-01-01",
        source="file",
    )
    return msgspec.structs.replace(plain, **changes)


def test_each_rule_fires_on_what_it_is_for(catalog: Catalog) -> None:
    fine = row("fine")
    split = msgspec.structs.replace(fine.deployment, tp=28)
    cases = {
        "nothing": row("nothing", tpot_s=0.0, date="1"),
        "disaggregated": row("disaggregated", deployment=split, date="2"),
        "cached": row("cached", isl=8000, osl=10, ttft_s=0.01, tpot_s=0.001, concurrency=512, date="3"),
        "queued": row("queued", ttft_s=60.0, date="4"),
        "slow": row("slow", concurrency=4, tpot_s=0.05, date="5"),
    }
    many = [row(f"{c}", concurrency=c, date="5") for c in (8, 16, 32, 64)]
    good, bad = screen([fine, *cases.values(), *many], catalog.accelerators)
    reasons = {b.id: b.reason for b in bad}
    assert set(reasons) == set(cases)
    assert "positive" in reasons["nothing"]
    assert "disaggregated" in reasons["disaggregated"]
    assert "utilisation" in reasons["cached"]
    assert "outside the engine" in reasons["queued"]
    assert "slower than the same sweep" in reasons["slow"]
    assert len(good) == 5


def test_a_sweep_whose_repeats_disagree_is_dropped_whole(catalog: Catalog) -> None:
    rows = [row("a", tpot_s=0.010), row("b", tpot_s=0.020), row("c", concurrency=32, tpot_s=0.021)]
    good, bad = screen(rows, catalog.accelerators)
    assert not good
    assert {b.id: b.reason for b in bad}["c"] == "its sweep is inconsistent"
