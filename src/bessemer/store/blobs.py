"""Blobs: datasets, uploads, adapters, named by the SHA-256 of their content. Written once, a blob never changes."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol


class BlobStore(Protocol):
    """Keeps blobs for all processes of the installation. Blocking; safe to share between threads.

    A blob has no path: what needs a file in a folder of its own copies one there from `open`.
    """

    def put(self, content: bytes | Path | BinaryIO) -> str:
        """Store bytes, a copy of a file or what an open one still holds; return the SHA-256 in hex.

        On return the blob is stored, whole. Of equal ones there is one. Raises StoreError when it cannot be written.
        """

    def open(self, sha256: str) -> BinaryIO:
        """Open a blob at its start, for seeking too, once its content is known to have that hash.

        Raises NotFound, InvalidRequest for what is not a SHA-256, StoreError when the content has another hash or
        cannot be read.
        """

    def read(self, sha256: str) -> bytes:
        """Return a blob's content. Raises as `open`."""

    def exists(self, sha256: str) -> bool:
        """Return whether there is such a blob. Raises InvalidRequest for what is not a SHA-256."""

    def remove_unless(self, sha256: str, named: Callable[[], bool]) -> None:
        """Delete a blob that nothing names any more; one that is gone already is left at that.

        It is out of sight before `named` is asked: whoever names it in between finds it missing and puts it again, or
        is seen, and the blob is back.
        """
