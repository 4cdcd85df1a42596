"""The planner's nouns: hardware, prices, models, deployments, and how long a step takes.

Decides the units every other planner module speaks: seconds, bytes, tokens, watts, US dollars.
It knows neither where the values come from (`catalog`) nor how they are predicted (`performance`).
"""

from enum import StrEnum

import msgspec
import numpy as np


class ServingEngine(StrEnum):
    """The serving software a prediction is for."""

    VLLM = "vllm"
    SGLANG = "sglang"
    TRTLLM = "trtllm"


class Precision(StrEnum):
    """Number format of the weights in matrix products."""

    BF16 = "bf16"
    FP8 = "fp8"
    FP4 = "fp4"
    INT4 = "int4"


class KvPrecision(StrEnum):
    """Number format of the KV cache."""

    AUTO = "auto"
    """8 bits beside 8- and 4-bit floating weights, 16 otherwise: as the measured public runs were set."""
    BF16 = "bf16"
    FP8 = "fp8"


class Owner(StrEnum):
    """Whose machines they are."""

    CLOUD = "cloud"
    """Instances rented from a public cloud."""
    AI_FACTORY = "ai_factory"
    """A provider's machines, installed and run by it on the customer's site."""
    OWN = "own"
    """Bought and run by the customer."""


class Source(msgspec.Struct, frozen=True):
    """Where a figure comes from: a page, file or paper, and the day it was read (ISO date)."""

    where: str
    date: str | None = None


class Accelerator(msgspec.Struct, frozen=True):
    """One accelerator. Peaks are dense; a blank peak means that the format is not there or not known."""

    name: str
    architecture: str
    memory_gb: float
    """Usable memory, 10^9 bytes."""
    bandwidth_tbs: float
    """Memory bandwidth, 10^12 bytes/s."""
    bf16_tflops: float
    fp8_tflops: float | None
    fp4_tflops: float | None
    link_gbs: float | None
    """Bandwidth of the accelerator's link inside a node or rack (NVLink, NeuronLink), 10^9 bytes/s per direction;
    blank: PCIe alone."""
    power_w: float | None
    source: Source
    nominal_gb: float | None = None
    """Memory that the vendor prints, GB; what software can use is `memory_gb`."""
    note: str = ""
    """What a reader must know before trusting the figures."""
    bf16_matmul_tflops: float | None = None
    """Most that a dense matrix product of this format was measured to sustain; only where no engine was measured."""
    fp8_matmul_tflops: float | None = None
    """The same in FP8."""
    link_group: int | None = None
    """Accelerators that share the link (those of one bridge), the others are reached over PCIe; blank: all of them."""


class InstancePrice(msgspec.Struct, frozen=True):
    """What one instance costs for an hour under one term. Never changed, only followed by a newer one."""

    instance: str
    usd_per_hour: float
    term: str
    """`on_demand`, `capacity_block`, `1yr`, `3yr`, `savings_1yr`, `savings_3yr`, `spot`."""
    region: str
    date: str
    source: str


class Instance(msgspec.Struct, frozen=True):
    """Something that can be rented or bought as a unit."""

    name: str
    provider: str
    accelerator: str
    count: int
    """Accelerators in it."""
    network_gbps: float | None
    """Scale-out network of the whole instance, 10^9 bits/s."""
    domain: int
    """Accelerators that share a fast link (8 in a node, 36 or 72 in an UltraServer, 1 over PCIe)."""
    source: str
    operator: str = ""
    """Who runs the machine and can be compelled to open it; blank when the customer does."""
    vcpu: int | None = None
    ram_gib: float | None = None


class AttentionKind(StrEnum):
    """How a layer keeps its past."""

    GQA = "gqa"
    SLIDING = "sliding"
    MLA = "mla"
    LINEAR = "linear"


class LayerGroup(msgspec.Struct, frozen=True):
    """Layers of one attention kind: KV bytes per token are billed per group, never for the whole model at once."""

    count: int
    attention: AttentionKind
    heads: int
    kv_heads: int
    head_dim: int
    window: int | None = None
    """Tokens that a sliding-window layer keeps."""
    latent_dim: int | None = None
    """MLA: values per token in the cache (compressed KV + rotary key), shared by all heads."""


class MixtureOfExperts(msgspec.Struct, frozen=True):
    """The routed part of a mixture-of-experts model."""

    layers: int
    experts: int
    active: int
    expert_hidden: int
    shared_hidden: int = 0


class ModelShape(msgspec.Struct, frozen=True):
    """What performance depends on in a model."""

    name: str
    layers: int
    hidden: int
    vocabulary: int
    dense_hidden: int
    """Hidden size of the feed-forward block of dense layers (0 when every layer is routed)."""
    groups: tuple[LayerGroup, ...]
    moe: MixtureOfExperts | None
    parameters_b: float
    """All parameters, 10^9."""
    active_b: float
    """Parameters that one token uses, 10^9."""
    source: Source
    context_tokens: int | None = None
    """Longest prompt and answer together that the model takes; None: not known."""
    block_scaled: bool | None = None
    """Whether its 8-bit checkpoint scales its weights by the block (`weight_block_size`); None: not said."""


class Deployment(msgspec.Struct, frozen=True):
    """One replica: a model on some accelerators with one engine. Parallel sizes in accelerators."""

    model: str
    accelerator: str
    engine: ServingEngine
    engine_version: str | None
    precision: Precision
    tp: int = 1
    pp: int = 1
    dp: int = 1
    """Attention data parallelism: every rank holds the KV of its own sequences."""
    ep: int = 1
    """Expert parallelism."""
    instance: str | None = None

    @property
    def accelerators(self) -> int:
        """Accelerators that one replica occupies."""
        return self.tp * self.pp * self.dp


class StepTime(msgspec.Struct, frozen=True):
    """How long one engine step of a replica takes, as the simulator needs it. Times in seconds.

    A step decodes `b` sequences that hold `c` KV tokens together, and prefills `p` prompt tokens whose positions attend
    to `q` token pairs:  `decode_s[b] + kv_token_s * c + (p > 0) * prefill_step_s + prefill_token_s * p + pair_s * q`.
    """

    decode_s: np.ndarray
    """[max_batch + 1]: a step with b decoding sequences without their KV reads; `decode_s[0]` is the bare step."""
    kv_token_s: float
    prefill_token_s: float
    prefill_step_s: float = 0.0
    pair_s: float = 0.0


class Replica(msgspec.Struct, frozen=True):
    """What the simulator must know about one replica."""

    step: StepTime
    max_batch: int
    kv_tokens: int
    """KV tokens that fit; admission and preemption follow it."""
    chunk_tokens: int
    """Tokens (prefill and decode together) that one step may process (chunked prefill)."""
    request_s: float
    """API-server time before a request can be scheduled."""
    prompt_token_s: float = 0.0
    """API-server time per prompt token (tokenising)."""
    block_tokens: int = 16
    kv_value_bytes: float = 2.0
    """Bytes of one cached value, which `kv_tokens` and the step's KV reads are reckoned with."""


class IntervalEstimate(msgspec.Struct, frozen=True):
    """A prediction and the bounds that should hold 80 % of measurements."""

    value: float
    low: float
    high: float
