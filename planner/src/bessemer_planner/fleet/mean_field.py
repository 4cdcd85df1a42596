"""A replica's steady state in closed form, for every number of requests in flight at once.

In a steady state with b requests decoding, one step takes D(b) = decode(b) + kv x b x context, and every request's
prompt work P is spread over the steps of its answer: time per token = D(b) + b P / answer. The simulator agrees up to
the fluctuation of arrivals, which `load_below` allows for.
"""

import math

import msgspec
import numpy as np

from bessemer_planner.types import Replica


class MeanLengths(msgspec.Struct, frozen=True):
    """Mean tokens of a request: the whole prompt (what of it is cached the replica knows), and the answer."""

    isl: float
    osl: float


class States(msgspec.Struct, frozen=True):
    """Steady states with 1, 2, ... requests in flight; arrays over that number."""

    ttft_s: np.ndarray
    tpot_s: np.ndarray
    requests_s: np.ndarray


def states(replica: Replica, lengths: MeanLengths) -> States:
    """Return the steady states up to the batch limit and the KV memory. Empty when not one request fits."""
    step, isl, osl = replica.step, lengths.isl, lengths.osl
    room = int(min(replica.kv_tokens / (isl + osl), replica.max_batch, len(step.decode_s) - 1))
    batch = np.arange(1, room + 1, dtype=float)
    prompt_s = prompt_seconds(replica, isl)
    decode = step.decode_s[1 : room + 1] + step.kv_token_s * batch * (isl + osl / 2)
    tpot = decode + batch * prompt_s / osl
    ttft = replica.request_s + replica.prompt_token_s * isl + prompt_s + tpot
    return States(ttft, tpot, batch / (osl * tpot))


def prompt_seconds(replica: Replica, isl: float) -> float:
    """Return the engine's time for one prompt of `isl` tokens."""
    step = replica.step
    return step.prefill_step_s + step.prefill_token_s * isl + step.pair_s * isl**2 / 2


def load_below(most: float, quantile: float) -> float:
    """Return the mean load n whose upper quantile is `most`, for Poisson numbers in flight: n + z sqrt(n) = most."""
    root = (-quantile + math.sqrt(quantile**2 + 4 * most)) / 2
    return max(root**2, 0.25)


def at_load(values: np.ndarray, load: float) -> float:
    """Return a value of the states at a load that need not be whole; below one request it is that of one."""
    return float(np.interp(load, np.arange(1, len(values) + 1), values))
