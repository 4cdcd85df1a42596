"""What a run leaves on disk between steps: tensors with a note, each file whole or not there."""

import os
from pathlib import Path
from typing import NamedTuple

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


class Saved(NamedTuple):
    """A file's tensors and its note, JSON."""

    tensors: dict[str, Tensor]
    note: str


class RunFolder:
    """The folder of one run."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def write(self, name: str, tensors: dict[str, Tensor], note: bytes) -> None:
        """Write a file; a process killed meanwhile leaves the previous one."""
        path = self._path(name)
        partial = path.with_suffix(".partial")
        save_file(tensors, partial, metadata={"note": note.decode()})
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)

    def read(self, name: str) -> Saved | None:
        """Return a file; None when it was not written."""
        path = self._path(name)
        if not path.exists():
            return None
        with safe_open(str(path), "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 a handle, not a dict
            return Saved(tensors, file.metadata()["note"])

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.safetensors"
