"""Measured time to first token and per output token: reading the file format, and which rows cannot be believed.

The format is `silicon_sample.csv` of ai-dynamo/aiconfigurator (Apache-2.0). Three things are put right on reading:
dumps of public benchmark runs write `tp x ep` (or `dp x ep`) as one size, dynamo runs write the concurrency of several
replicas (what is kept is one replica and its own concurrency), and their precision is the plan's, not the served one.
"""

import csv
import math
import re
from pathlib import Path

import msgspec

from bessemer_planner.errors import InputError, Unsatisfiable
from bessemer_planner.models import model_shape
from bessemer_planner.types import Deployment, Precision, ServingEngine

_COLUMNS = (
    *("id", "silicon_data_source", "backend", "backend_version", "model_path", "system", "precision", "mode"),
    *("isl", "osl", "batch_size", "tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size"),
    *("silicon_ttft_ms", "silicon_tpot_ms"),
)
"""Columns that every aggregated row is read from; those of decode workers may be missing."""
_MODES = ("agg", "disagg")
_DUMP = re.compile(r"^(source_file=20\d\d-\d\d-\d\d\.csv|db-dump)")
_FORMATS = (
    (Precision.FP4, re.compile(r"fp4|gpt-oss", re.IGNORECASE)),
    (Precision.FP8, re.compile(r"fp8|deepseek-(r1|v3)", re.IGNORECASE)),
    (Precision.INT4, re.compile(r"int4|awq|gptq|w4a16", re.IGNORECASE)),
)
"""Formats that a checkpoint's name tells, four-bit requantisations first: gpt-oss is published in MXFP4, DeepSeek-R1
and V3 in FP8 (`quantization_config` of their config.json); a name that tells nothing is one of 16 bits."""
_CONCURRENCY = re.compile(r"silicon_concurrency=(\d+)")
_DATE = re.compile(r"measured=(\d{4}-\d{2}-\d{2})")


class MeasuredRow(msgspec.Struct, frozen=True):
    """One measured point of one replica; of a disaggregated one, its decode worker. Times in seconds."""

    id: str
    mode: str
    model: str
    deployment: Deployment
    isl: int
    osl: int
    concurrency: int
    ttft_s: float
    tpot_s: float
    version: str
    date: str
    source: str
    speculative: bool = False
    """The run verified draft tokens (see `_drafts`)."""

    @property
    def group(self) -> tuple[str, str]:
        """What evaluation splits by: rows of one (model, GPU) are never on both sides."""
        return (self.model, self.deployment.accelerator)

    @property
    def sweep(self) -> tuple[object, ...]:
        """Rows of one sweep differ in concurrency alone."""
        at = self.deployment
        sizes = (at.tp, at.dp, at.ep, self.isl, self.osl)
        return (*self.group, at.engine, at.precision, *sizes, self.version, self.date, self.source)


class BadRow(msgspec.Struct, frozen=True):
    """A row that is kept out, and the rule that it breaks."""

    id: str
    reason: str


def read_measured(path: Path) -> tuple[tuple[MeasuredRow, ...], tuple[BadRow, ...]]:
    """Read a file of measurements; rows that cannot be read are returned with the reason, never dropped silently.

    Raises InputError when it is not such a file.
    """
    rows: list[MeasuredRow] = []
    bad: list[BadRow] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = reader.fieldnames or ()
            missing = [c for c in _COLUMNS if c not in columns]
            if missing:
                raise InputError(
                    f"{path}: columns missing: {', '.join(missing)}. Give a file in the measured format.", param="file"
                )
            for raw in reader:
                name = raw["id"] or f"line {reader.line_num}"
                try:
                    _check_cells(raw, reader.line_num, len(columns))
                    rows.append(_row(raw))
                except (ValueError, OverflowError, Unsatisfiable) as error:
                    bad.append(BadRow(name, f"unreadable: {error}"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read: {why}. Give a CSV file in UTF-8.", param="file") from None
    return tuple(rows), tuple(bad)


def _check_cells(raw: dict[str, str], line: int, columns: int) -> None:
    """Refuse a row that is cut off or too long: `DictReader` fills up with None, and keeps the rest under None."""
    if None in raw or None in raw.values():
        raise ValueError(f"line {line} does not have the {columns} columns of the first line")


def _row(raw: dict[str, str]) -> MeasuredRow:
    shape = model_shape(raw["model_path"])
    dump = bool(_DUMP.match(raw["silicon_data_source"]))
    if raw["mode"] not in _MODES:
        raise ValueError(f"mode {raw['mode']!r} is none of {', '.join(_MODES)}")
    together = raw["mode"] == "agg"
    if not together and not raw.get("decode_batch_size"):
        raise ValueError("disaggregated, without the number of decode workers: their batch is not known")
    tp, dp, ep = _sizes(raw, "" if together else "decode_", dump=dump and together)
    named = _CONCURRENCY.search(raw["silicon_data_source"])
    if together:
        concurrency = int(named[1]) if named and dump else _int(raw["batch_size"]) * dp
    else:
        concurrency = _int(raw["decode_batch_size"])
    if concurrency < 1:
        raise ValueError("no concurrency: batch_size is blank or 0")
    date = _DATE.search(raw["silicon_data_source"])
    if min(_int(raw["isl"]), _int(raw["osl"])) < 1:
        raise ValueError("no input or output length")
    day = date[1] if date else ""
    deployment = Deployment(
        model=shape.name,
        accelerator=raw["system"],
        engine=ServingEngine(raw["backend"]),
        engine_version=raw["backend_version"] or None,
        precision=_precision(raw, dump=dump),
        tp=tp,
        dp=dp,
        ep=ep,
    )
    return MeasuredRow(
        id=raw["id"],
        mode=raw["mode"],
        model=shape.name,
        deployment=deployment,
        isl=_int(raw["isl"]),
        osl=_int(raw["osl"]),
        concurrency=concurrency,
        ttft_s=float(raw["silicon_ttft_ms"]) / 1e3,
        tpot_s=float(raw["silicon_tpot_ms"]) / 1e3,
        version=raw["backend_version"],
        date=day,
        source=raw["silicon_data_source"].split(";")[0],
        speculative=_drafts(deployment, day),
    )


def _precision(raw: dict[str, str], *, dump: bool) -> Precision:
    """Return the format that the run served.

    A dump names the family of the model and has the format beside it. A row of TensorRT-LLM that names its image names
    the checkpoint that was served, and the format beside it is that of the plan which it tests: `Qwen/Qwen3-32B`, of
    16 bits, stands beside `nvfp4`. The engine takes the format from the checkpoint and quantises no weights on loading
    (NVIDIA/TensorRT-LLM docs/source/features/quantization.md: pre-quantised models, or offline with Model Optimizer).
    """
    if dump or raw["backend"] != ServingEngine.TRTLLM or "image=" not in raw["silicon_data_source"]:
        return Precision(raw["precision"] or "bf16")
    return next((known for known, name in _FORMATS if name.search(raw["model_path"])), Precision.BF16)


def _drafts(deployment: Deployment, date: str) -> bool:
    """Whether a public benchmark run used multi-token prediction, which no column says.

    SemiAnalysisAI/InferenceX, `perf-changelog.yaml` and `nvidia-master.yaml` of 2026-04-05 (bddbf4031): TensorRT-LLM
    images of DeepSeek-R1 with MTP (`dsr1-*-trt-mtp`) are 1.1.0rc2.post2 from January 2026 and 1.2.0rc6.post3, those
    without are 1.1.0rc2.post2 before and 1.2.0rc6.post2; SGLang 0.5.9 ran Qwen3.5 in FP8 with tp 4 and ep 1 with MTP
    alone (`qwen3.5-fp8-*-sglang-mtp`). SGLang 0.5.9 ran DeepSeek-R1 in FP8 on B200 both ways: those are not told apart.
    """
    at = (deployment.model, deployment.engine, deployment.engine_version)
    if at == ("DeepSeek-R1", ServingEngine.TRTLLM, "1.1.0rc2.post2"):
        return date >= "2026-01"
    if at == ("Qwen3.5-397B-A17B", ServingEngine.SGLANG, "0.5.9"):
        return deployment.precision is Precision.FP8 and (deployment.tp, deployment.ep) == (4, 1)
    return at == ("DeepSeek-R1", ServingEngine.TRTLLM, "1.2.0rc6.post3")


def _sizes(raw: dict[str, str], worker: str, *, dump: bool) -> tuple[int, int, int]:
    """Tensor, attention-data and expert parallel sizes of one replica (of the decode `worker` when disaggregated)."""
    names = ("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
    tp, dp, moe_tp, ep = (_int(raw.get(f"{worker}{name}", "")) for name in names)
    if tp < 1:
        raise ValueError(f"no tensor-parallel size: {worker}tp_size is blank or 0")
    if (pp := _int(raw.get(f"{worker}pp_size") or "")) > 1:
        raise ValueError(f"{worker}pp_size is {pp}: pipeline stages are not predicted")
    dp, moe_tp, ep = max(1, dp), max(1, moe_tp), max(1, ep)
    if dump and ep > 1 and tp == dp == math.isqrt(ep):
        return 1, dp, dp
    if dump and ep > 1 and ep == moe_tp:
        return (tp, max(1, dp // ep), ep) if dp > 1 else (max(1, tp // ep), 1, ep)
    if tp * dp < moe_tp * ep and moe_tp * ep % tp == 0:
        dp = moe_tp * ep // tp
    return tp, dp, ep


def _int(text: str) -> int:
    return int(float(text)) if text else 0
