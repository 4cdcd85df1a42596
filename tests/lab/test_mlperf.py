"""Published Server rows: the predicted machine holds the submitted rate, and accelerators come in their order."""

import pytest

from bessemer_planner.catalog import HardwareCatalog
from lab.planner.mlperf import ServerCheck, check_server_rows

COLUMNS = (
    "system,accelerator,num_gpus,model,precision,framework,scenario,osl,request_rate_s,ttft_limit_ms,tpot_limit_ms,"
    "ttft_p99_ms,tpot_p99_ms,total_output_tok_s,output_tok_s_per_gpu\n"
)
ROWS = (  # mlcommons/inference_results_v5.1, closed division, llama3.1-8b Server
    "XE8640,NVIDIA H100-SXM-80GB,1,llama3.1-8b,fp8,vLLM 0.10.0,Server,129.0,39.56,2000,100,1911.17,25.129,5103.99,5104",
    "C885,NVIDIA H200-SXM-141GB,8,llama3.1-8b,fp8,TensorRT 10.11,Server,129.0,503.21,2000,100,371.1,90.35,64914.6,8114",
    "SR780a,NVIDIA B200-SXM-180GB,8,llama3.1-8b,fp4,TensorRT,Server,129.0,997.59,2000,100,1026.1,27.14,128689,16086",
    "XE7745,NVIDIA H200-NVL-141GB,4,llama3.1-8b,fp8,TensorRT 10.8,Server,129.0,199.64,2000,100,,30.2,25753.8,6438",
    "VM,Virtualized NVIDIA H200-SXM-141GB,8,llama3.1-8b,fp8,TensorRT 10.8,Server,129.0,449,2000,100,,,57970,7246",
    "HGX,NVIDIA H100-SXM-80GB,32,llama2-70b-99,fp8,TensorRT 10.8,Server,292.9,417.49,2000,200,1742,145,122273,3821",
    "Mango,AMD Instinct MI300X 192GB HBM3,8,llama2-70b-99,fp8,LLMBoost (vllm),Server,301.0,82.59,2000,200,,,24860,3108",
    "G893,AMD Instinct MI325X 256GB HBM3e,8,llama2-70b-99,fp8,vLLM 0.6,Server,300.4,106.98,2000,200,,,32139.4,4017",
    "XE9680,AMD Instinct MI999X,8,llama3.1-8b,fp8,vLLM,Server,129.0,300,2000,100,,,40000,5000",
    "SR780a,NVIDIA B200-SXM-180GB,8,llama3.1-8b,fp4,TensorRT 10.8,Offline,129.0,,2000,100,,,140000,17500",
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, catalog: HardwareCatalog) -> ServerCheck:
    path = tmp_path_factory.mktemp("mlperf") / "rows.csv"
    path.write_text(COLUMNS + "\n".join(ROWS) + "\n")
    return check_server_rows(path, catalog.accelerators, catalog.aliases)


def test_submitted_rates_are_held_and_ordered(found: ServerCheck) -> None:
    small = {row.accelerator: row for row in found.rows if row.model == "Llama-3.1-8B"}
    assert set(small) == {"h100_sxm", "h200_sxm", "h200_nvl", "b200_sxm"}
    assert all(row.within for row in small.values())
    assert found.order["Llama-3.1-8B"].predicted == ("b200_sxm fp4", "h200_sxm fp8", "h200_nvl fp8", "h100_sxm fp8")
    assert (found.order["Llama-3.1-8B"].pairs, found.order["Llama-3.1-8B"].in_order) == (6, 6)
    assert all(0.5 < row.predicted_tokens_s / row.measured_tokens_s < 2.0 for row in found.rows)
    assert len(found.refused) == 1
    assert "MI999X" in found.refused[0][0]


def test_a_virtual_machine_is_its_accelerator_and_the_fastest_stands_for_all(found: ServerCheck) -> None:
    (row,) = [row for row in found.rows if row.accelerator == "h200_sxm"]
    assert (row.system, row.rate_s) == ("C885", 503.21)


def test_accelerators_of_the_same_peaks_differ_by_what_their_products_reach(found: ServerCheck) -> None:
    order = found.order["Llama-2-70B"].predicted
    assert order.index("mi325x fp8") < order.index("mi300x fp8")
    ratios = [row.predicted_tokens_s / row.measured_tokens_s for row in found.rows if row.model == "Llama-2-70B"]
    assert all(0.8 < ratio < 1.25 for ratio in ratios)


def test_rows_run_as_they_were_submitted(found: ServerCheck) -> None:
    """H100 by two pipeline stages, MI325X with a capped batch: both come within 6 % of the rate that was submitted."""
    large = {row.accelerator: row for row in found.rows if row.model == "Llama-2-70B"}
    assert (large["h100_sxm"].setting.pp, large["h100_sxm"].setting.tp) == (2, 1)
    assert large["mi325x"].setting.max_batch == 832
    assert all(0.94 < row.predicted_tokens_s / row.measured_tokens_s < 1.06 for row in large.values())


def test_the_highest_rate_breaks_a_limit_when_it_grows(found: ServerCheck) -> None:
    """The submitted rate is held exactly where the highest predicted one is above it."""
    for row in found.rows:
        if abs(row.predicted_tokens_s / row.measured_tokens_s - 1.0) > 0.05:
            assert row.within == (row.predicted_tokens_s > row.measured_tokens_s)
