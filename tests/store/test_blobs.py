"""What every blob store does, the folder of one machine and a bucket; and what the folder leaves on disk."""

import hashlib
import io
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.store.bucket import BucketBlobs

from bessemer.core.errors import InvalidRequest, NotFound, StoreError
from bessemer.store.blob_folder import BlobFolder
from bessemer.store.blobs import BlobStore

MISSING = "0" * 64


@pytest.fixture(params=["folder", "bucket"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    return BlobFolder(tmp_path / "blobs") if request.param == "folder" else BucketBlobs()


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), start=st.integers(0, 200))
def test_a_blob_is_named_by_its_content_wherever_that_comes_from(
    blobs: BlobStore, tmp_path: Path, content: bytes, start: int
) -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    file = tmp_path / "file"
    file.write_bytes(content)
    for source in (content, file, io.BytesIO(content)):
        assert blobs.put(source) == sha256
    assert blobs.exists(sha256)
    assert blobs.read(sha256) == content
    with blobs.open(sha256) as opened:
        opened.seek(start)
        assert opened.read() == content[start:]


def test_of_an_open_file_the_rest_is_stored(blobs: BlobStore) -> None:
    source = io.BytesIO(b"head and body")
    source.seek(9)
    assert blobs.read(blobs.put(source)) == b"body"


def test_a_large_blob_comes_back(blobs: BlobStore) -> None:
    content = b"0123456789abcdef" * 300_000
    assert blobs.read(blobs.put(io.BytesIO(content))) == content


def test_what_is_not_there_is_said(blobs: BlobStore) -> None:
    assert not blobs.exists(MISSING)
    blobs.remove_unless(MISSING, lambda: False)
    for look in (blobs.open, blobs.read):
        with pytest.raises(NotFound, match=MISSING):
            look(MISSING)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "0" * 63])
def test_a_name_that_is_no_hash_is_refused(blobs: BlobStore, name: str) -> None:
    looks: list[Callable[[], object]] = [
        lambda: blobs.open(name),
        lambda: blobs.read(name),
        lambda: blobs.exists(name),
        lambda: blobs.remove_unless(name, lambda: False),
    ]
    for look in looks:
        with pytest.raises(InvalidRequest, match="64 hex digits"):
            look()


def test_a_blob_goes_when_nothing_names_it(blobs: BlobStore) -> None:
    sha256 = blobs.put(b"content")
    blobs.remove_unless(sha256, lambda: True)
    assert blobs.read(sha256) == b"content"
    blobs.remove_unless(sha256, lambda: False)
    assert not blobs.exists(sha256)


def test_who_names_a_blob_while_it_goes_finds_it_missing(blobs: BlobStore) -> None:
    sha256 = blobs.put(b"content")

    def named() -> bool:
        assert not blobs.exists(sha256)
        blobs.put(b"content")
        return True

    blobs.remove_unless(sha256, named)
    assert blobs.read(sha256) == b"content"


def test_two_uploads_at_once_are_one_blob(blobs: BlobStore) -> None:
    content = b"x" * 3_000_000
    names: list[str] = []
    threads = [threading.Thread(target=lambda: names.append(blobs.put(io.BytesIO(content)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names == [hashlib.sha256(content).hexdigest()] * 4
    assert blobs.read(names[0]) == content


def test_a_folder_holds_whole_blobs_alone(tmp_path: Path) -> None:
    class Torn(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("the upload broke off")

    folder = tmp_path / "blobs"
    blobs = BlobFolder(folder)
    sha256 = blobs.put(b"content")
    with pytest.raises(StoreError, match="cannot be written"):
        blobs.put(Torn())
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert [path.name for path in files] == [sha256]
    files[0].write_bytes(b"rotten")
    for look in (blobs.open, blobs.read):
        with pytest.raises(StoreError, match="damaged"):
            look(sha256)
    assert blobs.put(b"content") == sha256
    assert blobs.read(sha256) == b"content", "putting it again mends it"
