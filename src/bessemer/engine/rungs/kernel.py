"""The compiled part of rungs: built once with the machine's C compiler, kept in the user's cache folder.

Without a compiler `kernel` returns None, and Python and numpy do the same, some ten times slower.
"""

import ctypes
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bessemer.engine.rungs.texts import PackedTexts
from bessemer_planner.native import compiled

_HERE = Path(__file__).parent
_OPTIONS = ("-O3", "-march=native", "-fno-math-errno", "-ffp-contract=off")
"""Results do not depend on whether the machine has fused multiplications."""
_INCLUDED = ("texts.h", "similarity.h", "comparison.h", "ngrams.h")
_CLASSIFIED = 0x40000
"""Code points that have a class; no letter or digit stands behind them."""
Ints = npt.NDArray[np.int64]
_POINTER, _INT = ctypes.c_void_p, ctypes.c_int64


class _Table(ctypes.Structure):
    """`Table` of texts.h."""

    _fields_ = (
        *((name, _POINTER) for name in ("chars", "ends", "slots")),
        *((name, _INT) for name in ("size", "mask")),
    )


class ComparisonJob(ctypes.Structure):
    """`Comparison` of comparison.h."""

    _fields_ = (
        *((name, _POINTER) for name in ("chars", "lengths", "types", "offsets", "wanted")),
        *((name, _Table) for name in ("idf", "signs", "units")),
        *((name, _POINTER) for name in ("idf_values", "weights", "unit_bases", "unit_factors", "features", "known")),
        *((name, _INT) for name in ("rows", "fields", "width")),
    )


class RegressionJob(ctypes.Structure):
    """`Regression` of ngrams.h."""

    _fields_ = (
        *((name, _POINTER) for name in ("chars", "lengths")),
        ("blocks", _Table * 3),
        ("idf", _POINTER * 3),
        *((name, _POINTER) for name in ("unknown", "weights", "logits", "known", "strange")),
        *((name, _INT) for name in ("rows", "labels")),
    )


class ForestJob(ctypes.Structure):
    """`Forest` of kernel.c."""

    _fields_ = (
        *((name, _POINTER) for name in ("feature", "threshold", "missing_left", "left", "right", "value")),
        *((name, _POINTER) for name in ("roots", "column", "rows", "outputs")),
        *((name, _INT) for name in ("rows_n", "features", "trees", "columns")),
    )


class RungKernel:
    """The library's functions. Threads may share it; calls run beside other threads."""

    def __init__(self, library: Any, classes: npt.NDArray[np.uint16]) -> None:
        """`classes` are kept by the library."""
        self._library, self._classes = library, classes
        library.set_classes(_POINTER(classes.ctypes.data), _INT(len(classes)))
        library.compare_records.restype = library.regress_texts.restype = library.fill_table.restype = _INT
        library.walk_trees.restype = None

    def compare(self, job: ComparisonJob) -> None:
        """Fill in the features and known shares of pairs of records. Raises MemoryError."""
        if self._library.compare_records(ctypes.byref(job)):
            raise MemoryError

    def regress(self, job: RegressionJob) -> None:
        """Fill in the logits and known shares of texts. Raises MemoryError."""
        if self._library.regress_texts(ctypes.byref(job)):
            raise MemoryError

    def walk(self, job: ForestJob) -> None:
        """Add the trees' values to the outputs."""
        self._library.walk_trees(ctypes.byref(job))

    def table(self, texts: PackedTexts) -> "TextTable":
        """Return where each of different texts stands. Raises ValueError when one is there twice."""
        table = TextTable(*texts.code_points(), np.zeros(1 << max(4, (2 * len(texts)).bit_length()), np.uint64))
        job = table.job()
        if self._library.fill_table(ctypes.byref(job)):
            raise ValueError("a text is there twice")
        return table


class TextTable(NamedTuple):
    """Texts, and where each of their hashes stands."""

    chars: npt.NDArray[np.uint32]
    ends: Ints
    slots: npt.NDArray[np.uint64]

    def job(self) -> _Table:
        """Return it as the kernel takes it; the arrays must outlive that."""
        return _Table(pointer(self.chars), pointer(self.ends), pointer(self.slots), len(self.ends), len(self.slots) - 1)


def pointer(array: npt.NDArray[Any]) -> int:
    """Return where the data of an array in C order begins."""
    address: int = array.__array_interface__["data"][0]
    return address


def code_points(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint32], Ints]:
    """Return the code points of all texts behind each other, and how many each has."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32), lengths


@cache
def kernel() -> RungKernel | None:
    """Return the kernel, compiling it when it is not in the cache folder; None without a C compiler."""
    path = compiled(_HERE / "kernel.c", _OPTIONS, [_HERE / name for name in _INCLUDED])
    return None if path is None else RungKernel(ctypes.CDLL(str(path)), _classes())


def _classes() -> npt.NDArray[np.uint16]:
    """Return what `re` and `str` say of each code point: bits as in texts.h, a decimal's value above them."""
    every = "".join(map(chr, range(_CLASSIFIED)))
    found = np.zeros(_CLASSIFIED, np.uint16)
    for bit, pattern in ((1, r"\d+"), (2, r"[^\W\d_]+"), (4, r"\w+")):
        for run in re.finditer(pattern, every):
            found[run.start() : run.end()] |= bit
    found[np.fromiter(map(str.isdigit, every), np.bool_, _CLASSIFIED)] |= 8
    found[np.fromiter(map(str.isalpha, every), np.bool_, _CLASSIFIED)] |= 16
    for place in np.flatnonzero(found & 1).tolist():
        found[place] |= int(every[place]) << 8
    return found
