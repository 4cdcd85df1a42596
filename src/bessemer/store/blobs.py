"""Content-addressed files: datasets, uploads, adapters. A blob is written once and never changes."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from bessemer.core.errors import InvalidRequest, NotFound, StoreError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20


class Blobs:
    """A folder of files named by the SHA-256 of their content."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, content: bytes | Path | BinaryIO) -> str:
        """Store bytes, a copy of a file or what an open one still holds; return the SHA-256 in hex.

        On return the blob is on disk, whole.

        Raises StoreError when the folder cannot be written.
        """
        try:
            return self._put(content)
        except OSError as error:
            raise StoreError(f"The blob folder {str(self._folder)!r} cannot be written: {error}.") from error

    def _put(self, content: bytes | Path | BinaryIO) -> str:
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".new-", dir=self._folder)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as target:
                if isinstance(content, bytes):
                    target.write(content)
                elif isinstance(content, Path):
                    with content.open("rb") as source:
                        shutil.copyfileobj(source, target, _CHUNK)
                else:
                    shutil.copyfileobj(content, target, _CHUNK)
                target.flush()
                os.fsync(target.fileno())
            sha256 = _hash(temporary)
            path = self._path(sha256)
            path.parent.mkdir(exist_ok=True)
            temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
        return sha256

    def get(self, sha256: str) -> Path:
        """Return the path of a blob. Raises NotFound, or InvalidRequest for what is not a SHA-256."""
        path = self._path(sha256)
        if not path.is_file():
            raise NotFound(f"There is no blob {sha256!r}.", param="sha256")
        return path

    def read(self, sha256: str) -> bytes:
        """Return a blob's content. Raises as `open`."""
        with self.open(sha256) as blob:
            return blob.read()

    def open(self, sha256: str) -> BinaryIO:
        """Open a blob at its start. Raises as `get`, and StoreError when the content no longer has that hash."""
        blob = self.get(sha256).open("rb")
        if hashlib.file_digest(blob, "sha256").hexdigest() != sha256:
            blob.close()
            raise StoreError(f"The blob {sha256!r} is damaged: restore it from a backup.")
        blob.seek(0)
        return blob

    def remove_unless(self, sha256: str, named: Callable[[], bool]) -> None:
        """Delete a blob that nothing names any more; one that is gone already is left at that.

        It is put aside before `named` is asked: whoever names it in between finds it missing and puts it again, or is
        seen, and the blob is put back.
        """
        path = self._path(sha256)
        aside = path.with_name(f".gone-{sha256}")
        try:
            path.replace(aside)
        except FileNotFoundError:
            return
        if named():
            aside.replace(path)
        else:
            aside.unlink()
            _sync_folder(path.parent)

    def exists(self, sha256: str) -> bool:
        """Return whether the blob is here. Raises InvalidRequest for what is not a SHA-256."""
        return self._path(sha256).is_file()

    def _path(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise InvalidRequest(f"{sha256!r} is not a SHA-256 of 64 hex digits.", param="sha256")
        return self._folder / sha256[:2] / sha256


def _hash(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
