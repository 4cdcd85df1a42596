"""Boosted trees as arrays: each node a feature, a threshold and two children, all rows walked at once."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bessemer.core.errors import EngineError
from bessemer.engine.rungs.artefact import AnyArray, Arrays
from bessemer.engine.rungs.kernel import ForestJob, kernel, pointer
from bessemer.engine.rungs.texts import Ints

Floats = npt.NDArray[np.float64]
_ROWS = 256
"""Rows that are walked together: their places in all trees stay in the cache."""


class Trees(NamedTuple):
    """m nodes of all trees, and t trees. A leaf is its own child, both of them; others have theirs behind them."""

    feature: AnyArray
    """[m] int32"""
    threshold: AnyArray
    """[m] float64; x <= threshold goes left."""
    missing_left: AnyArray
    """[m] uint8: where a NaN goes."""
    left: AnyArray
    """[m] int32"""
    right: AnyArray
    """[m] int32"""
    value: AnyArray
    """[m] float64, of leaves."""
    roots: AnyArray
    """[t] int32"""
    column: AnyArray
    """[t] int32: the output that each tree adds to."""
    base: AnyArray
    """[k] float64: what the outputs begin with."""
    depth: int

    def outputs(self, x: Floats) -> Floats:
        """Return the sum of the trees' values for rows of features: [n, k]."""
        total = np.tile(self.base, (len(x), 1))
        compiled = kernel()
        if compiled is not None:
            rows = np.ascontiguousarray(x, np.float64)
            places = (pointer(array) for array in (*self[:8], rows, total))
            compiled.walk(ForestJob(*places, *x.shape, len(self.roots), total.shape[1]))
            return total
        for begin in range(0, len(x), _ROWS):
            rows = x[begin : begin + _ROWS]
            place = np.tile(self.roots, (len(rows), 1))
            which = np.arange(len(rows))[:, None]
            for _ in range(self.depth):
                seen = rows[which, self.feature[place]]
                goes_left = (seen <= self.threshold[place]) | (np.isnan(seen) & (self.missing_left[place] > 0))
                place = np.where(goes_left, self.left[place], self.right[place])
            values = self.value[place]
            for column in range(total.shape[1]):
                total[begin : begin + _ROWS, column] += values[:, self.column == column].sum(axis=1)
        return total

    def read(self) -> Ints:
        """Return the features that any node asks for."""
        return np.unique(self.feature[self.left != np.arange(len(self.left))]).astype(np.int64)

    def arrays(self) -> dict[str, AnyArray]:
        """Return it as arrays."""
        return {f"trees.{name}": getattr(self, name) for name in self._fields if name != "depth"}

    @staticmethod
    def make(**arrays: AnyArray) -> "Trees":
        """Return the trees of these arrays, all of the fields but the depth. Raises EngineError for none."""
        packed = {f"trees.{name}": array for name, array in arrays.items()}
        features = int(arrays["feature"].max(initial=0)) + 1
        return Trees.of(Arrays(packed), features, len(arrays["base"]))

    @staticmethod
    def of(arrays: Arrays, features: int, outputs: int) -> "Trees":
        """Return what `arrays` returned, for rows of so many features. Raises EngineError for trees that are none."""
        feature = arrays.take("trees.feature", np.int32, None)
        m = len(feature)
        threshold = arrays.take("trees.threshold", np.float64, m)
        missing_left = arrays.take("trees.missing_left", np.uint8, m)
        left, right = (arrays.take(f"trees.{side}", np.int32, m) for side in ("left", "right"))
        value = arrays.take("trees.value", np.float64, m)
        roots = arrays.take("trees.roots", np.int32, None)
        column = arrays.take("trees.column", np.int32, len(roots))
        base = arrays.take("trees.base", np.float64, outputs)
        here = np.arange(m)
        leaf = (left == here) & (right == here)
        behind = (left > here) & (right > here) & (left < m) & (right < m)
        if not (leaf | behind).all() or ((feature < 0) | (feature >= features)).any():
            raise EngineError("A tree has a node whose feature or children are not there.")
        if ((roots < 0) | (roots >= m)).any() or ((column < 0) | (column >= outputs)).any():
            raise EngineError("A tree begins or ends nowhere.")
        return Trees(
            feature, threshold, missing_left, left, right, value, roots, column, base, _depth(left, right, leaf)
        )


def _depth(left: AnyArray, right: AnyArray, leaf: AnyArray) -> int:
    """Return the most steps from any node to a leaf. Raises EngineError beyond 512."""
    steps, edge = 0, np.flatnonzero(~leaf)
    while len(edge):
        steps += 1
        if steps > _DEEPEST:
            raise EngineError(f"A tree is deeper than {_DEEPEST}.")
        below = np.unique(np.concatenate([left[edge], right[edge]]))
        edge = below[~leaf[below]]
    return steps


_DEEPEST = 64
