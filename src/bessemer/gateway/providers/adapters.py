"""Adapters in the blob store: a tar of a PEFT folder, read only when its content has the hash that names it."""

import shutil
import tarfile
from pathlib import Path

from bessemer.core.errors import ProviderError
from bessemer.store.blobs import BlobStore


def unpack_adapter(blobs: BlobStore, sha256: str, folder: Path) -> None:
    """Write the files of an adapter blob (a tar of a PEFT folder) into a folder, over what is there.

    Raises NotFound, StoreError for a blob that does not have its hash any more, ProviderError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with blobs.open(sha256) as archive, tarfile.open(fileobj=archive) as tar:
            for member in tar:
                _unpack_file(tar, member, folder)
    except (tarfile.TarError, EOFError) as error:
        raise ProviderError(f"The adapter {sha256[:12]} cannot be unpacked: {error}.", retryable=False) from error


def _unpack_file(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write one member. Anything but a plain file directly in the archive is refused.

    `extractall(filter="data")` would do, but Python 3.11 has it from 3.11.4 on only.
    """
    content = tar.extractfile(member) if member.isfile() and Path(member.name).name == member.name else None
    if content is None:
        raise tarfile.TarError(f"the member {member.name!r} is not a plain file")
    with (folder / member.name).open("wb") as target:
        shutil.copyfileobj(content, target)
