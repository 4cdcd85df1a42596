"""Published Server rows: the predicted machine holds the submitted rate, and accelerators come in their order."""

from pathlib import Path

from bessemer.planner.catalog import Catalog
from bessemer.planner.performance.mlperf import check_server_rows

COLUMNS = (
    "system,accelerator,num_gpus,model,precision,framework,scenario,osl,request_rate_s,ttft_limit_ms,tpot_limit_ms,"
    "ttft_p99_ms,tpot_p99_ms,total_output_tok_s,output_tok_s_per_gpu\n"
)
ROWS = (  # mlcommons/inference_results_v5.1, closed division, llama3.1-8b Server
    "XE8640,NVIDIA H100-SXM-80GB,1,llama3.1-8b,fp8,vLLM 0.10.0,Server,129.0,39.56,2000,100,1911.17,25.129,5103.99,5104",
    "C885,NVIDIA H200-SXM-141GB,8,llama3.1-8b,fp8,TensorRT 10.11,Server,129.0,503.21,2000,100,371.1,90.35,64914.6,8114",
    "SR780a,NVIDIA B200-SXM-180GB,8,llama3.1-8b,fp4,TensorRT,Server,129.0,997.59,2000,100,1026.1,27.14,128689,16086",
    "XE9680,AMD Instinct MI999X,8,llama3.1-8b,fp8,vLLM,Server,129.0,300,2000,100,,,40000,5000",
    "SR780a,NVIDIA B200-SXM-180GB,8,llama3.1-8b,fp4,TensorRT 10.8,Offline,129.0,,2000,100,,,140000,17500",
)


def test_submitted_rates_are_held_and_ordered(tmp_path: Path, catalog: Catalog) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(COLUMNS + "\n".join(ROWS) + "\n")
    found = check_server_rows(path, catalog.accelerators, catalog.aliases)
    assert {row.accelerator for row in found.rows} == {"h100_sxm", "h200_sxm", "b200_sxm"}
    assert found.within == 3
    by_name = {row.accelerator: row for row in found.rows}
    per_gpu = [by_name[a].predicted_tokens_s / by_name[a].accelerators for a in ("h100_sxm", "h200_sxm", "b200_sxm")]
    assert per_gpu == sorted(per_gpu)
    assert all(0.5 < row.predicted_tokens_s / row.measured_tokens_s < 2.0 for row in found.rows)
    assert len(found.refused) == 1
    assert "MI999X" in found.refused[0][0]
