"""L2: how far real engines are from the peaks, learned per term with partial pooling.

A time is `sum over terms of exp(base[term] + deviations) * peak_seconds[term]`. Deviations belong to levels (engine,
version, architecture, model, precision, parallelism and some of their pairs); each is shrunk to zero by its own
width, so a level never measured predicts with what its parents know. All coefficients are positive: predicted times
are monotone in concurrency and length.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from bessemer.planner.types import Accelerator, Deployment, ModelShape

Array = NDArray[np.float64]
Key = tuple[str, str, str]


class Level(msgspec.Struct, frozen=True):
    """One kind of level: what it is called, how far it may deviate, and whether it scales all terms alike."""

    kind: str
    width: float
    whole: bool = False


class Structure(msgspec.Struct, frozen=True):
    """Fitted coefficients: the base of every term and the deviations of every level seen."""

    terms: tuple[str, ...]
    groups: dict[str, str]
    """Term -> group; a level that is not whole has one deviation per group."""
    levels: tuple[Level, ...]
    base: tuple[float, ...]
    deviations: dict[str, float]
    """`kind|value|group` -> deviation; the group of a whole level is `all`."""

    def coefficients(self, values: dict[str, str]) -> Array:
        """Return the coefficient of every term for one deployment's level values."""
        logs = np.array(self.base, dtype=np.float64)
        for level in self.levels:
            value = values.get(level.kind)
            for index, term in enumerate(self.terms):
                group = "all" if level.whole else self.groups[term]
                logs[index] += self.deviations.get(f"{level.kind}|{value}|{group}", 0.0)
        return np.exp(logs)


def level_values(deployment: Deployment, shape: ModelShape, accelerator: Accelerator) -> dict[str, str]:
    """Return the value of every kind of level for one deployment."""
    engine, version = deployment.engine.value, deployment.engine_version or ""
    architecture, precision = accelerator.architecture, deployment.precision.value
    mixture = "moe" if shape.moe else "dense"
    parallel = "dp" if deployment.dp > 1 else "ep" if deployment.ep > 1 else "tp"
    return {
        "engine": engine,
        "gpu": accelerator.name,
        "architecture": architecture,
        "model": shape.name,
        "precision": precision,
        "version": f"{engine} {version}",
        "engine_architecture": f"{engine} {architecture}",
        "parallel": parallel,
        "engine_model": f"{engine} {shape.name}",
        "version_model": f"{engine} {version} {shape.name}",
        "model_precision": f"{shape.name} {precision}",
        "mixture": mixture,
        "engine_mixture": f"{engine} {mixture}",
    }


def fit_structure(
    structure: Structure,
    peaks: Array,
    values: list[dict[str, str]],
    seconds: Array,
    weights: Array,
    *,
    noise: float = 0.12,
    iterations: int = 30,
) -> Structure:
    """Fit base and deviations to measured `seconds` [n] by Gauss-Newton on their logarithm.

    `peaks` [n, terms] are the seconds at peak rates; `structure` gives terms, groups, levels and the starting base,
    which is also its prior. Errors beyond two `noise` count linearly (Huber), so single bad rows do not steer.
    """
    keys, member = _design(structure, values)
    terms, groups = len(structure.terms), sorted(set(structure.groups.values()))
    of_term = np.array([[structure.groups[t] == g for t in structure.terms] for g in groups], dtype=np.float64)
    of_key = np.array([[key[2] in (g, "all") for key in keys] for g in groups], dtype=np.float64)
    start = np.concatenate([structure.base, np.zeros(len(keys))])
    widths = {level.kind: level.width for level in structure.levels}
    penalty = np.concatenate([np.ones(terms), [widths[kind] ** -2 for kind, _, _ in keys]])
    target, theta = np.log(seconds), start.copy()
    for _ in range(iterations):
        logs = theta[:terms] + (member * theta[terms:]) @ of_key.T @ of_term
        parts = np.exp(logs) * peaks
        total = parts.sum(axis=1)
        shares = parts / total[:, None]
        residual = target - np.log(total)
        weight = weights / np.maximum(1.0, np.abs(residual) / (2.0 * noise)) / noise**2
        jacobian = np.concatenate([shares, member * (shares @ of_term.T @ of_key)], axis=1)
        hessian = (jacobian * weight[:, None]).T @ jacobian + np.diag(penalty)
        gradient = jacobian.T @ (weight * residual) - penalty * (theta - start)
        step = np.clip(np.linalg.solve(hessian, gradient), -0.7, 0.7)
        theta = theta + step
        if np.abs(step).max() < 2e-3:
            break
    deviations = {"|".join(key): round(float(v), 5) for key, v in zip(keys, theta[terms:], strict=True)}
    return msgspec.structs.replace(
        structure, base=tuple(round(float(b), 5) for b in theta[:terms]), deviations=deviations
    )


def _design(structure: Structure, values: list[dict[str, str]]) -> tuple[list[Key], Array]:
    """Index the levels that occur; return their keys and the 0/1 matrix [rows, keys] of membership."""
    groups = sorted(set(structure.groups.values()))
    index: dict[Key, int] = {}
    cells: list[tuple[int, int]] = []
    for row, at in enumerate(values):
        for level in structure.levels:
            for group in ("all",) if level.whole else groups:
                cells.append((row, index.setdefault((level.kind, at[level.kind], group), len(index))))
    member = np.zeros((len(values), len(index)))
    rows, columns = zip(*cells, strict=True)
    member[list(rows), list(columns)] = 1.0
    return list(index), member
