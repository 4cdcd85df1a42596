"""Blobs in a folder of this machine."""

import hashlib
import io
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from bessemer.core.errors import InvalidRequest, NotFound, StoreError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20


class BlobFolder:
    """A `BlobStore` of files: each is named by its hash, and appears under its name when it is whole and on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, content: bytes | Path | BinaryIO) -> str:
        """See `BlobStore`."""
        try:
            if isinstance(content, bytes):
                return self._put(io.BytesIO(content))
            if isinstance(content, Path):
                with content.open("rb") as source:
                    return self._put(source)
            return self._put(content)
        except OSError as error:
            raise StoreError(f"The blob folder {str(self._folder)!r} cannot be written: {error}.") from error

    def _put(self, source: BinaryIO) -> str:
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".new-", dir=self._folder)
        temporary, digest = Path(name), hashlib.sha256()
        try:
            with os.fdopen(handle, "wb") as target:
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    target.write(chunk)
                target.flush()
                os.fsync(target.fileno())
            path = self._path(digest.hexdigest())
            path.parent.mkdir(exist_ok=True)
            temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
        return path.name

    def open(self, sha256: str) -> BinaryIO:
        """See `BlobStore`."""
        try:
            blob = self._path(sha256).open("rb")
            if hashlib.file_digest(blob, "sha256").hexdigest() == sha256:
                blob.seek(0)
                return blob
        except FileNotFoundError:
            raise NotFound(f"There is no blob {sha256!r}.", param="sha256") from None
        except OSError as error:
            raise StoreError(f"The blob {sha256!r} cannot be read: {error}.") from error
        blob.close()
        raise StoreError(f"The blob {sha256!r} is damaged: restore it from a backup.")

    def read(self, sha256: str) -> bytes:
        """See `BlobStore`."""
        with self.open(sha256) as blob:
            return blob.read()

    def exists(self, sha256: str) -> bool:
        """See `BlobStore`."""
        return self._path(sha256).is_file()

    def remove_unless(self, sha256: str, named: Callable[[], bool]) -> None:
        """See `BlobStore`."""
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

    def _path(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise InvalidRequest(f"{sha256!r} is not a SHA-256 of 64 hex digits.", param="sha256")
        return self._folder / sha256[:2] / sha256


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
