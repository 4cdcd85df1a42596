"""Another blob store: a bucket of objects with what S3 offers (put where there is none, get, delete) and no path."""

import hashlib
import io
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from bessemer.core.errors import InvalidRequest, NotFound, StoreError


class Bucket:
    """Objects by key."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def create(self, key: str, content: bytes) -> bool:
        """Put an object unless there is one (`If-None-Match: *`); return whether there was none."""
        return self.objects.setdefault(key, content) is content


class BucketBlobs:
    """A `BlobStore` in a bucket; what is opened is downloaded into a file that nobody else sees."""

    def __init__(self) -> None:
        self.bucket = Bucket()

    def put(self, content: bytes | Path | BinaryIO) -> str:
        if isinstance(content, Path):
            content = content.read_bytes()
        elif not isinstance(content, bytes):
            content = content.read()
        sha256 = hashlib.sha256(content).hexdigest()
        self.bucket.create(self._key(sha256), content)
        return sha256

    def open(self, sha256: str) -> BinaryIO:
        content = self.bucket.objects.get(self._key(sha256))
        if content is None:
            raise NotFound(f"There is no blob {sha256!r}.", param="sha256")
        if hashlib.sha256(content).hexdigest() != sha256:
            raise StoreError(f"The blob {sha256!r} is damaged: restore it from a backup.")
        downloaded = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        downloaded.write(content)
        downloaded.seek(0)
        return io.BufferedReader(downloaded)  # type: ignore[type-var, arg-type]

    def read(self, sha256: str) -> bytes:
        with self.open(sha256) as blob:
            return blob.read()

    def exists(self, sha256: str) -> bool:
        return self._key(sha256) in self.bucket.objects

    def remove_unless(self, sha256: str, named: Callable[[], bool]) -> None:
        content = self.bucket.objects.pop(self._key(sha256), None)
        if content is not None and named():
            self.bucket.create(self._key(sha256), content)

    def _key(self, sha256: str) -> str:
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise InvalidRequest(f"{sha256!r} is not a SHA-256 of 64 hex digits.", param="sha256")
        return f"blobs/{sha256}"
