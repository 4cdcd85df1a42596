"""Sealed test data: what the ladder's rungs are scored on once, and never chosen by.

`sealed.toml` names the files whose rows are held out whole (the published test files and the answers recorded on them)
by the sha256 of their contents, under whatever name they lie; and the sets of one file, a share of whose rows is held
out by the hash of the row, with the sha256 of those rows. Everything is chosen on splits of the training rows. Sealed
rows are handed to `Seal.FINAL` alone, which the final scoring says after every rung is fitted and written down.
"""

import hashlib
import tomllib
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from bessemer.cli.demo import offers
from bessemer.core.content import content_hash
from bessemer.core.errors import InvalidRequest
from bessemer.core.types import JSON, Frozen
from lab.rows import read_rows

LIST = Path(__file__).parent / "sealed.toml"


class Seal(StrEnum):
    """What rows are read for."""

    DEVELOPMENT = "development"
    """Fitting, choosing, looking: sealed rows are refused."""
    FINAL = "final"
    """The single scoring of what is fitted already."""


class SealedFile(Frozen, frozen=True):
    """A file that is held out whole."""

    path: str
    sha256: str


class SealedRows(Frozen, frozen=True):
    """A share of a file's rows that is held out."""

    path: str
    salt: str
    share: float
    count: int
    sha256: str
    """Of the held-out rows' content hashes in the file's order."""


class SealedSeed(Frozen, frozen=True):
    """What a generator makes of one seed."""

    module: str
    seed: int
    count: int
    sha256: str


class SealedSets(Frozen, frozen=True):
    """The list."""

    files: tuple[SealedFile, ...]
    rows: tuple[SealedRows, ...]
    generated: SealedSeed


def sealed_sets() -> SealedSets:
    """Return what is sealed."""
    return msgspec.convert(tomllib.loads(LIST.read_text()), SealedSets)


def open_file(path: Path, seal: Seal) -> Path:
    """Return the path of a file that may be read for this. Raises InvalidRequest for a sealed one in development."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    known = next((one for one in sealed_sets().files if one.sha256 == digest), None)
    if known is not None and seal is not Seal.FINAL:
        raise InvalidRequest(f"{path.name} is sealed ({known.path}): only the final scoring reads it.", param="path")
    if known is None and any(one.path.endswith("/" + path.name) for one in sealed_sets().files):
        raise InvalidRequest(f"{path.name} is not the file that was sealed: its sha256 is {digest}.", param="path")
    return path


def held_out(row: JSON, salt: str, share: float) -> bool:
    """Whether a row belongs to the held-out share of its file, by its hash."""
    return int(content_hash([salt, row])[:12], 16) / float(1 << 48) < share


def split_rows(path: Path, seal: Seal) -> list[JSON]:
    """Return the rows of a file of which a share is sealed: in development the others, for the final scoring these.

    Raises InvalidRequest when the held-out rows are not those that were sealed.
    """
    known = next((one for one in sealed_sets().rows if one.path.endswith(path.name)), None)
    if known is None:
        raise InvalidRequest(f"{path.name}: no share of it is sealed.", param="path")
    rows = read_rows(path)
    kept_out = [row for row in rows if held_out(row, known.salt, known.share)]
    if digest_of(kept_out) != known.sha256 or len(kept_out) != known.count:
        raise InvalidRequest(f"{path.name}: its held-out rows are not those that were sealed.", param="path")
    return kept_out if seal is Seal.FINAL else [row for row in rows if not held_out(row, known.salt, known.share)]


def generate(count: int, seed: int, seal: Seal) -> tuple[offers.Pair, ...]:
    """Return the generator's offers of a seed; for the final scoring those of the sealed one.

    Raises InvalidRequest for the sealed seed in development, and when the generator makes other offers than it did.
    """
    known = sealed_sets().generated
    if seal is not Seal.FINAL:
        if seed == known.seed:
            raise InvalidRequest(f"seed {seed} is sealed: only the final scoring reads its offers.", param="seed")
        return offers.generate(count, seed)
    made = offers.generate(known.count, known.seed)
    if digest_of([msgspec.to_builtins(pair) for pair in made]) != known.sha256:
        raise InvalidRequest("The generator makes other offers than those that were sealed.", param="seed")
    return made


def digest_of(rows: Sequence[JSON]) -> str:
    """Return the sha256 of the rows' content hashes, in order."""
    return hashlib.sha256("".join(content_hash(row) for row in rows).encode()).hexdigest()
