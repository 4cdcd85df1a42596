"""What one decode step consists of: work at the accelerator's peaks, and kernels as they were measured."""

import numpy as np
from numpy.typing import NDArray

from bessemer_planner.performance.operators import TABLE_TERMS, table_terms
from bessemer_planner.performance.work import PEAK_TERMS, PREFILL_TERMS, peak_terms
from bessemer_planner.types import Accelerator, Deployment, ModelShape

Array = NDArray[np.float64]

DECODE_TERMS = PEAK_TERMS + TABLE_TERMS
TERMS = DECODE_TERMS + PREFILL_TERMS


def decode_terms(
    deployment: Deployment, shape: ModelShape, accelerator: Accelerator, batch: Array, context: Array
) -> Array:
    """Return [len(batch), len(DECODE_TERMS)] seconds of a step that decodes `batch` sequences of `context` tokens."""
    at = (deployment, shape, accelerator, batch)
    return np.concatenate([peak_terms(*at, context), table_terms(*at)], axis=1)
