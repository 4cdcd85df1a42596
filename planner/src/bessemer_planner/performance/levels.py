"""What a deployment is called at every level of the calibration."""

import msgspec

from bessemer_planner.types import Accelerator, Deployment, ModelShape

UNKNOWN = "?"
"""A value that is not known: nothing is learned from it and it predicts with its parents and their doubt."""


class BenchmarkRun(msgspec.Struct, frozen=True):
    """The benchmark run that a row belongs to: what the columns of a row do not say but its run shares."""

    date: str = ""
    kind: str = ""
    speculative: bool = False
    """Draft tokens were verified (multi-token prediction): fewer steps per token."""


def level_values(
    deployment: Deployment, shape: ModelShape, accelerator: Accelerator, run: BenchmarkRun | None = None
) -> dict[str, str]:
    """Return the value of every kind of level. A plan knows no run, and an unknown version is none."""
    engine, precision, model = deployment.engine.value, deployment.precision.value, shape.name
    architecture = accelerator.architecture
    mixture = _mixture(shape)
    attention = "+".join(g.attention.value for g in shape.groups)
    parallel = "dp" if deployment.dp > 1 else "ep" if deployment.ep > 1 else "tp"
    world = str(deployment.tp * deployment.dp)
    month = f"{engine} {run.date[:7]}" if run and run.date else UNKNOWN
    version = f"{engine} {deployment.engine_version}" if deployment.engine_version else month
    named = version != UNKNOWN
    campaign = f"{version} {run.date} {run.kind} {model}" if run else UNKNOWN
    return {
        "engine": engine,
        "gpu": accelerator.name,
        "architecture": architecture,
        "model": model,
        "precision": precision,
        "mixture": mixture,
        "attention": attention,
        "parallel": parallel,
        "world": world,
        "month": month,
        "version": version,
        "run_model": campaign,
        "speculative": "draft" if run and run.speculative else "plain",
        "version_model": f"{version} {model}" if named else UNKNOWN,
        "version_architecture": f"{version} {architecture}" if named else UNKNOWN,
        "engine_architecture": f"{engine} {architecture}",
        "engine_model": f"{engine} {model}",
        "engine_mixture": f"{engine} {mixture}",
        "engine_precision": f"{engine} {precision}",
        "engine_attention": f"{engine} {attention}",
        "engine_attention_architecture": f"{engine} {attention} {architecture}",
        "engine_model_architecture": f"{engine} {model} {architecture}",
        "engine_world": f"{engine} {world}",
        "model_precision": f"{model} {precision}",
        "model_parallel": f"{model} {parallel} {world}",
        "architecture_precision": f"{architecture} {precision} {mixture}",
        "parallel_architecture": f"{parallel} {architecture}",
    }


def _mixture(shape: ModelShape) -> str:
    """Return the kind of feed-forward layers.

    Experts wider than the model (Mixtral's are 3.5 times) run like dense layers, not like those of fine-grained
    mixtures: with 4,096 tokens on an H200 at 70 % of the peak, against 6 to 25 % (TensorRT-LLM's FP8 expert kernels,
    aiconfigurator-core 0.12.0). No engine was measured with such a model: what was learned of the others is not
    carried over.
    """
    if shape.moe is None:
        return "dense"
    return "coarse" if shape.moe.expert_hidden > shape.hidden else "moe"
