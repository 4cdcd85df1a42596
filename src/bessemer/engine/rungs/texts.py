"""Many short texts as two arrays: vocabularies and signs, as artefacts hold them."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class PackedTexts(NamedTuple):
    """UTF-8 of all texts behind each other, and where each ends."""

    utf8: npt.NDArray[np.uint8]
    ends: Ints

    @staticmethod
    def of(texts: Sequence[str]) -> "PackedTexts":
        """Return texts packed."""
        encoded = [text.encode() for text in texts]
        ends = np.cumsum([len(part) for part in encoded], dtype=np.int64)
        return PackedTexts(np.frombuffer(b"".join(encoded), np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends)

    def strings(self) -> list[str]:
        """Return them as they were."""
        data = self.utf8.tobytes()
        return [data[a:b].decode() for a, b in pairwise([0, *self.ends.tolist()])]

    def code_points(self) -> tuple[npt.NDArray[np.uint32], Ints]:
        """Return the code points of all texts, and where each text ends among them."""
        points = np.frombuffer(self.utf8.tobytes().decode().encode("utf-32-le"), np.uint32)
        before = np.concatenate([[0], np.cumsum(_begins(self.utf8), dtype=np.int64)])
        return points, before[self.ends]

    def arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """Return them as arrays of an artefact."""
        return {name + ".bytes": self.utf8, name + ".ends": self.ends}

    def valid(self) -> bool:
        """Whether it is UTF-8, cut between characters, from the beginning to the end."""
        edges = np.concatenate([[0], self.ends])
        if edges[-1] != len(self.utf8) or (edges[1:] < edges[:-1]).any():
            return False
        try:
            self.utf8.tobytes().decode()
        except UnicodeDecodeError:
            return False
        inside = self.ends[self.ends < len(self.utf8)]
        return bool(_begins(self.utf8)[inside].all())


def _begins(utf8: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return which bytes a character begins with."""
    found: npt.NDArray[np.bool_] = (utf8 & 0xC0) != 0x80
    return found
