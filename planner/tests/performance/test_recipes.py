"""What a step is made of: draft tokens shorten what decodes and nothing else."""

import numpy as np
import pytest

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.models import model_shape
from bessemer_planner.performance.recipes import TPOT, shortened_by_drafts, token_terms
from bessemer_planner.performance.step import DECODE_TERMS, TERMS
from bessemer_planner.types import Deployment, Precision, ServingEngine


def test_drafts_shorten_decode_and_leave_prompts(catalog: HardwareCatalog) -> None:
    deployment = Deployment("DeepSeek-R1", "b200_sxm", ServingEngine.TRTLLM, None, Precision.FP4, tp=8)
    at = (deployment, model_shape("DeepSeek-R1"), catalog.accelerator("b200_sxm"))
    plain = token_terms(*at, 1024, 8192, np.array([16.0]))
    short, tilts = shortened_by_drafts(plain, {"gemm": 0.1}, 8192)
    decode = len(DECODE_TERMS)
    assert (short[:, :decode] == plain[:, :decode] / 1.4).all()
    assert (short[:, decode:] == plain[:, decode:]).all()
    assert tilts == pytest.approx({"gemm": 0.1, "draft": 1.0, "draft_length": np.log(8.0)})


def test_every_term_has_a_group_and_a_start() -> None:
    assert set(TPOT.groups) == set(TERMS)
    assert len(TPOT.start) == len(TERMS)
    assert TPOT.groups["kernels"] != TPOT.groups["step"]
