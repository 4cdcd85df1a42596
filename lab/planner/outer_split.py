"""The outer split of the measured TTFT and TPOT: whole (architecture, GPU) groups that no choice ever sees.

    python -m lab.planner.outer_split  # draws the groups and writes outer_split.json beside it; refused a second time

Checkpoints of one architecture form one group per GPU, so that no sealed row has a sibling among the others. Dense and
expert models are drawn from apart, a quarter of each rounded up, in the order of the hash of the group's name. Terms
and settings are chosen by cross-validation by group on the other rows; the sealed ones are scored once, at the end.
"""

import argparse
import csv
import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from bessemer.core.types import Frozen

LIST = Path(__file__).parent / "outer_split.json"
FILE = "planner/measured_ttft_tpot.csv"
SHARE = 0.25
SALT = "bessemer-planner-outer-split-1"
ARCHITECTURES = (  # the part of the name that tells the architecture, the architecture
    ("deepseek-r1", "deepseek-v3"),
    ("deepseek-v3", "deepseek-v3"),
    ("kimi-k2", "kimi-k2"),
    ("minimax-m2", "minimax-m2"),
    ("qwen3.5-397b", "qwen3.5-397b"),
    ("qwen3-235b", "qwen3-235b"),
    ("qwen3-32b", "qwen3-32b"),
    ("llama-3.1-70b", "llama-70b"),
    ("llama-3.1-8b", "llama-8b"),
    ("gpt-oss-120b", "gpt-oss-120b"),
    ("glm-5", "glm-5"),
)
DENSE = frozenset({"qwen3-32b", "llama-70b", "llama-8b"})


class OuterSplit(Frozen, frozen=True):
    """What is sealed, and by what it is known again."""

    file: str
    salt: str
    share: float
    groups: tuple[str, ...]
    """Each 'architecture on GPU'."""
    rows: int
    sha256: str
    """Of the sealed rows' hashes, sorted."""


def group_of(row: Mapping[str, str]) -> str:
    """Return the group of a measured row. Raises KeyError for an architecture that the list does not know."""
    name = row["model_path"].lower()
    known = next((architecture for part, architecture in ARCHITECTURES if part in name), None)
    if known is None:
        raise KeyError(f"{row['model_path']}: add its architecture to ARCHITECTURES.")
    return f"{known} on {row['system']}"


def draw(groups: Iterable[str], salt: str = SALT, share: float = SHARE) -> tuple[str, ...]:
    """Return the sealed groups: the first of the dense and of the other ones, in the order of their hashes."""
    strata: dict[bool, list[str]] = defaultdict(list)
    for group in set(groups):
        strata[group.split(" on ")[0] in DENSE].append(group)
    drawn: list[str] = []
    for members in strata.values():
        ordered = sorted(members, key=lambda group: hashlib.sha256(f"{salt} {group}".encode()).hexdigest())
        drawn += ordered[: math.ceil(share * len(ordered))]
    return tuple(sorted(drawn))


def digest_of(rows: Sequence[Mapping[str, str]]) -> str:
    """Return the sha256 of the rows' hashes, whatever their order."""
    each = sorted(hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest() for row in rows)
    return hashlib.sha256("".join(each).encode()).hexdigest()


def outer_split() -> OuterSplit:
    """Return what is sealed."""
    return msgspec.json.decode(LIST.read_bytes(), type=OuterSplit)


def split(rows: Sequence[Mapping[str, str]]) -> tuple[list[Mapping[str, str]], list[Mapping[str, str]]]:
    """Return the rows to choose on and the sealed ones. Raises ValueError when these are not those that were sealed."""
    known = outer_split()
    inner = [row for row in rows if group_of(row) not in known.groups]
    sealed = [row for row in rows if group_of(row) in known.groups]
    if digest_of(sealed) != known.sha256:
        raise ValueError(f"{known.file}: its sealed rows are not those that were sealed.")
    return inner, sealed


def main() -> None:
    """Draw and write down the split, once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[3] / "shared" / "data")
    arguments = parser.parse_args()
    if LIST.exists():
        raise SystemExit(f"{LIST.name} is sealed already.")
    with (arguments.data / FILE).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    groups = draw(group_of(row) for row in rows)
    sealed = [row for row in rows if group_of(row) in groups]
    made = OuterSplit(FILE, SALT, SHARE, groups, len(sealed), digest_of(sealed))
    LIST.write_text(json.dumps(msgspec.to_builtins(made), indent=2) + "\n")


if __name__ == "__main__":
    main()
