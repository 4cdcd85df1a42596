"""How MLPerf v5.1 submissions ran: engine settings that their vendors published, and the answer lengths of their data.

Facts read from mlcommons/inference_results_v5.1@965182b: `configs/<system>/Server/<model>.py` and
`configs/<model>/Server/__init__.py` of submitters on TensorRT-LLM, `harness_llm/models/<model>/server_*.yaml` of those
on AMD's harness, `performance/run_1/mlperf_log_summary.txt` of every run. What none of them says stays open.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from bessemer_planner.types import Accelerator

Array = NDArray[np.float64]


class Setting(msgspec.Struct, frozen=True):
    """One replica of a submission."""

    tp: int = 1
    pp: int = 1
    dp: int = 1
    """Attention data parallelism; the experts of such a replica lie on all its accelerators."""
    max_batch: int = 2048
    """Sequences in flight on the replica. What is not published is TensorRT-LLM's own `max_batch_size`
    (NVIDIA/TensorRT-LLM tensorrt_llm/builder.py@008b2b8, BuildConfig)."""
    chunk_tokens: int = 8192
    """Tokens of one step on one pipeline stage."""
    graph_batches: tuple[int, ...] = ()
    """Batches of one rank for which graphs are captured; steps are padded to them. Empty: steps are not padded."""
    source: str = ""


_GRAPHS = (128, 256, 384, 512)
_SMALL = (1, 2, 4, 8, 16, 32, 64)
_SETTINGS = {
    ("DeepSeek-R1", "b200_sxm"): Setting(
        dp=8, max_batch=4096, chunk_tokens=3456, graph_batches=_GRAPHS, source="NVIDIA B200-SXM-180GBx8"
    ),
    ("DeepSeek-R1", "gb200"): Setting(
        dp=8, max_batch=4096, chunk_tokens=3456, graph_batches=_SMALL + _GRAPHS, source="NVIDIA GB200-NVL72"
    ),
    ("DeepSeek-R1", "gb300"): Setting(
        dp=8, max_batch=4096, chunk_tokens=3456, graph_batches=_GRAPHS, source="NVIDIA GB300-NVL72"
    ),
    ("Llama-3.1-405B", "b200_sxm"): Setting(tp=4, max_batch=256, chunk_tokens=2048, source="Nebius B200-SXM-180GBx8"),
    ("Llama-3.1-405B", "gb200"): Setting(tp=4, max_batch=256, chunk_tokens=2048, source="NVIDIA GB200-NVL72"),
    ("Llama-3.1-405B", "gb300"): Setting(tp=2, max_batch=2048, chunk_tokens=1536, source="NVIDIA GB300-NVL72"),
    ("Llama-3.1-405B", "h200_sxm"): Setting(tp=8, max_batch=512, chunk_tokens=2560, source="Nebius H200-SXM-141GBx8"),
    ("Llama-3.1-405B", "h100_sxm"): Setting(tp=8, max_batch=64, chunk_tokens=2560, source="Cisco H100_SXM_80GBx8"),
    ("Llama-3.1-8B", "b200_sxm"): Setting(max_batch=6000, chunk_tokens=12000, source="Dell XE9685L_B200_SXM_180GBx8"),
    ("Llama-3.1-8B", "h200_sxm"): Setting(chunk_tokens=12000, source="HPE Cray_XD670_H200_SXM_141GBx8"),
    ("Llama-3.1-8B", "h200_nvl"): Setting(chunk_tokens=1536, source="Quanta D75E-4U_H200-NVL-141GBx4"),
    ("Llama-3.1-8B", "h100_sxm"): Setting(max_batch=1024, chunk_tokens=4096, source="RedHat run_server_submission.sh"),
    ("Llama-2-70B", "h100_sxm"): Setting(pp=2, max_batch=2048, chunk_tokens=1024, source="Cisco H100_SXM_80GB_PP2x4"),
    ("Llama-2-70B", "h200_sxm"): Setting(chunk_tokens=1536, source="ASUSTeK ESC_N8_H200-SXM-141GBx8"),
    ("Llama-2-70B", "h200_nvl"): Setting(chunk_tokens=1536, source="Dell XE7745_H200_NVL_141GBx8"),
    ("Llama-2-70B", "rtx_pro_6000_server"): Setting(chunk_tokens=2048, source="HPE DL380A_RTX_PRO_6000_PCIE_96GBx8"),
    ("Llama-2-70B", "mi300x"): Setting(max_batch=608, chunk_tokens=40960, source="AMD server_mi300x.yaml"),
    ("Llama-2-70B", "mi325x"): Setting(max_batch=832, chunk_tokens=40960, source="AMD server_mi325x.yaml"),
    ("Mixtral-8x7B", "rtx_pro_6000_server"): Setting(source="HPE DL380A_RTX_PRO_6000_PCIE_96GBx8"),
    ("Mixtral-8x7B", "mi300x"): Setting(max_batch=4096, chunk_tokens=32000, source="AMD server_mi300x.yaml"),
    ("Mixtral-8x7B", "mi325x"): Setting(max_batch=2560, chunk_tokens=32000, source="AMD server_mi325x.yaml"),
}
"""By model and accelerator. TensorRT-LLM: tensor, pipeline and (where `enable_attention_dp`) data parallelism,
`gpu_batch_size` (of each rank and of each stage's micro-batch), runtime `max_num_tokens`, `cuda_graph_batch_sizes`
where `cuda_graph_padding_enabled`. AMD's harness: `VLLM_LLAMA2_MLPERF_MAX_TARGET_DECODE_BATCH`, else `max_num_seqs`,
and `max_num_batched_tokens`. MangoBoost's own engine on MI300X publishes none, AMD's stands for it; H100's 405B is the
class that is submitted as tensor parallel 8."""


_AT = np.array([0.0, 0.5, 0.9, 0.95, 0.97, 0.99, 0.999, 1.0])
_OUTPUTS = {
    "Llama-2-70B": (0.02, 0.873, 1.806, 2.241, 2.556, 3.238, 3.539, 3.617),
    "Llama-3.1-8B": (0.92, 1.002, 1.056, 1.071, 1.082, 1.104, 1.139, 1.17),
    "Llama-3.1-405B": (0.28, 1.056, 1.457, 1.563, 1.643, 1.804, 2.459, 3.57),
    "DeepSeek-R1": (0.0, 0.557, 2.505, 3.538, 4.282, 5.373, 5.685, 5.694),
    "Mixtral-8x7B": (0.0, 0.784, 1.928, 2.504, 2.952, 4.049, 6.843, 7.567),
}
"""Quantiles of an answer's length over the mean: latency less mean TTFT, over its mean, in runs whose time per output
token hardly varies (p50 to p90 within 1 %, 405B 15 %, Mixtral 6 %). 70B: Cisco's 32 H100, 8B: Oracle's B200, 405B:
NVIDIA's GB300, R1: NVIDIA's B200, Mixtral: HPE's RTX PRO 6000. The lowest is what makes the mean 1, as far as that is
possible."""


def setting(model: str, accelerator: Accelerator) -> Setting | None:
    """Return how `model` was submitted on an accelerator; None where nobody published it."""
    return _SETTINGS.get((model, accelerator.name))


def output_shares(model: str, uniform: Array) -> Array | None:
    """Return answer lengths over their mean for uniform draws in (0, 1); None for a model without runs."""
    if model not in _OUTPUTS:
        return None
    quantiles = np.array(_OUTPUTS[model])
    mean = float((np.diff(_AT) * (quantiles[1:] + quantiles[:-1]) / 2.0).sum())
    shares: Array = np.interp(uniform, _AT, quantiles) / mean
    return shares
