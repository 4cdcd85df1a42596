"""Reading and screening measured rows: sizes put right, and each rule fires on what it is for."""

from pathlib import Path

import msgspec
import pytest

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.errors import InputError
from bessemer_planner.performance.measured import MeasuredRow, read_measured
from bessemer_planner.performance.screen import screen
from bessemer_planner.types import Deployment, Precision, ServingEngine

HEADER = (
    "id,silicon_data_source,backend,backend_version,model_path,system,precision,mode,isl,osl,batch_size,tp_size,"
    "attention_dp_size,moe_tp_size,moe_ep_size,decode_batch_size,decode_tp_size,decode_attention_dp_size,"
    "decode_moe_tp_size,decode_moe_ep_size,silicon_ttft_ms,silicon_tpot_ms\n"
)
FINE = "a,x,vllm,1,meta-llama/Llama-3.1-8B,h100_sxm,fp8,agg,8,8,1,1,1,1,1,,,,,,1,1"
LOST = "b,x,vllm,1,openai/gpt-oss-120b,h100_sxm,fp8,disagg,8,8,1,1,1,1,1,1,1"


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


@pytest.mark.parametrize(
    ("source", "engine", "model", "told", "served"),
    [
        ("runs/qwen3_32b.csv; image=runtime:0.8.0", "trtllm", "Qwen/Qwen3-32B", "fp4", "bf16"),  # 16-bit checkpoint
        ("runs/r1.csv; image=runtime:0.8.0", "trtllm", "deepseek-ai/DeepSeek-R1", "fp4", "fp8"),
        ("runs/r1.csv; image=runtime:0.8.0", "trtllm", "nvidia/DeepSeek-R1-NVFP4", "fp4", "fp4"),
        ("runs/oss.csv; image=runtime:0.8.0", "trtllm", "openai/gpt-oss-120b", "fp8", "fp4"),  # published in MXFP4
        ("runs/qwen3.csv; image=runtime:0.8.0", "trtllm", "Qwen/Qwen3-235B-A22B-FP8", "fp8", "fp8"),
        ("db-dump/2026-04-27; image=runtime", "trtllm", "deepseek-ai/DeepSeek-R1", "fp4", "fp4"),  # a family's name
        ("my runs.csv", "trtllm", "meta-llama/Llama-3.1-70B", "fp8", "fp8"),  # nothing says what was served
        ("runs/l.csv; image=vllm", "vllm", "meta-llama/Llama-3.1-70B", "fp8", "fp8"),  # quantises on loading
    ],
)
def test_the_format_is_that_of_the_checkpoint_that_was_served(
    tmp_path: Path, source: str, engine: str, model: str, told: str, served: str
) -> None:
    line = f"a,source_file={source},{engine},1,{model},b200_sxm,{told},agg,4000,1000,8,4,1,1,4,,,,,,100,10"
    (row,), _ = read_measured(write(tmp_path, line.replace("source_file=db-dump", "db-dump")))
    assert row.deployment.precision.value == served


def test_rows_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    unknown = "b,x,vllm,1,acme/Nobody-9B,h100_sxm,fp8,agg,8,8,1,1,1,1,1,,,,,,1,1"
    lost = "c,x,vllm,1,openai/gpt-oss-120b,h100_sxm,fp8,disagg,8,8,,,,,,,8,1,8,1,1,1"
    rows, bad = read_measured(write(tmp_path, unknown, lost))
    assert not rows
    assert [b.id for b in bad] == ["b", "c"]
    assert "no shape known" in bad[0].reason
    assert "decode workers" in bad[1].reason


@pytest.mark.parametrize(
    ("mode", "batch", "tp", "words"),
    [("AGG", "8", "1", "mode 'AGG' is none of agg, disagg"), ("", "8", "1", "mode ''"),
     ("agg", "", "1", "no concurrency"), ("agg", "0", "1", "no concurrency"),
     ("agg", "8", "0", "tp_size is blank or 0"), ("agg", "8", "", "tp_size is blank or 0")],
)  # fmt: skip
def test_what_a_row_does_not_say_is_not_made_up(tmp_path: Path, mode: str, batch: str, tp: str, words: str) -> None:
    line = f"b,my runs,vllm,1,openai/gpt-oss-120b,h100_sxm,fp8,{mode},8,8,{batch},{tp},1,1,1,,,,,,1,1"
    rows, bad = read_measured(write(tmp_path, line))
    assert not rows
    assert words in bad[0].reason


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    path = write(tmp_path, FINE)
    path.write_text(path.read_text(), "utf-8-sig")
    assert len(read_measured(path)[0]) == 1


def test_pipeline_stages_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, FINE)
    head, row = path.read_text().splitlines()
    path.write_text(f"{head},pp_size\n{row},2\n{row},1\n{row},\n")
    rows, bad = read_measured(path)
    assert len(rows) == 2
    assert [one.reason for one in bad] == ["unreadable: pp_size is 2: pipeline stages are not predicted"]


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("id,latency\n1,2\n")
    with pytest.raises(InputError, match="columns missing: silicon_data_source, backend"):
        read_measured(path)
    path.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(InputError, match="cannot be read"):
        read_measured(path)


@pytest.mark.parametrize("name", ["tp_size", "batch_size", "silicon_data_source", "moe_ep_size"])
def test_a_missing_column_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(HEADER.replace(f",{name},", ",other,", 1) + FINE + "\n")
    with pytest.raises(InputError, match=f"columns missing: {name}\\."):
        read_measured(path)


def test_a_line_that_is_cut_off_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    cut = [FINE[: FINE.rindex(",")], FINE[: FINE.index("h100")], FINE + ",more", FINE.replace("8,8,1", "8,inf,1")]
    rows, bad = read_measured(write(tmp_path, FINE, *cut))
    assert len(rows) == 1
    assert [one.id for one in bad] == ["a"] * 4
    assert "line 3 does not have the 22 columns" in bad[0].reason


def test_aggregated_rows_need_no_columns_of_decode_workers(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    names = [name for name in HEADER.strip().split(",") if not name.startswith("decode_")]
    path.write_text(",".join(names) + "\n" + FINE.replace(",,,,,", "") + "\n" + LOST + "\n")
    rows, bad = read_measured(path)
    assert [row.id for row in rows] == ["a"]
    assert "decode workers" in bad[0].reason


def row(name: str, **changes: object) -> MeasuredRow:
    deployment = Deployment("Llama-3.1-70B", "h200_sxm", ServingEngine.VLLM, "0.10", Precision.FP8, tp=4)
    plain = MeasuredRow(
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


def test_each_rule_fires_on_what_it_is_for(catalog: HardwareCatalog) -> None:
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


def test_a_sweep_whose_repeats_disagree_is_dropped_whole(catalog: HardwareCatalog) -> None:
    rows = [row("a", tpot_s=0.010), row("b", tpot_s=0.020), row("c", concurrency=32, tpot_s=0.021)]
    good, bad = screen(rows, catalog.accelerators)
    assert not good
    assert {b.id: b.reason for b in bad}["c"] == "its sweep is inconsistent"


def test_the_only_row_of_its_day_is_judged_with_the_same_configuration_of_its_file(catalog: HardwareCatalog) -> None:
    broken = [row("a", tpot_s=0.010), row("b", tpot_s=0.020), row("c", concurrency=32, tpot_s=0.021)]
    alone = row("alone", concurrency=128, date="2026-01-02")
    elsewhere = row("elsewhere", concurrency=128, date="2026-01-02", source="another file")
    pair = [row(f"pair {c}", concurrency=c, date="2026-01-03", tpot_s=0.01 * c) for c in (1, 2)]
    good, bad = screen([*broken, alone, elsewhere, *pair], catalog.accelerators)
    assert {r.id for r in good} == {"elsewhere", "pair 1", "pair 2"}
    assert "another day" in {b.id: b.reason for b in bad}["alone"]
