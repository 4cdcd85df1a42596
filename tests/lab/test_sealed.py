"""Sealed rows: who reads them, and that they are the ones that were sealed."""

import hashlib
import json

import pytest

from bessemer.core.errors import InvalidRequest
from lab import sealed
from lab.sealed import Seal


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """A list that seals test.jsonl whole and some rows of mixed.jsonl; returns the folder."""
    (tmp_path / "test.jsonl").write_text('{"a": 1}\n')
    rows = [{"n": n} for n in range(20)]
    (tmp_path / "mixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = [row for row in rows if sealed.held_out(row, "s", 0.5)]
    digest = hashlib.sha256((tmp_path / "test.jsonl").read_bytes()).hexdigest()
    (tmp_path / "sealed.toml").write_text(
        f'[[files]]\npath = "x/test.jsonl"\nsha256 = "{digest}"\n[[rows]]\npath = "x/mixed.jsonl"\nsalt = "s"\n'
        f'share = 0.5\ncount = {len(out)}\nsha256 = "{sealed.digest_of(out)}"\n'
        '[generated]\nmodule = "offers"\nseed = 1\ncount = 2\nsha256 = "0"\n'
    )
    monkeypatch.setattr(sealed, "LIST", tmp_path / "sealed.toml")
    return tmp_path


def test_a_sealed_file_is_refused_in_development_under_any_name(listed):
    renamed = listed / "train.jsonl"
    renamed.write_bytes((listed / "test.jsonl").read_bytes())
    for path in (listed / "test.jsonl", renamed):
        with pytest.raises(InvalidRequest, match="sealed"):
            sealed.open_file(path, Seal.DEVELOPMENT)
    assert sealed.open_file(listed / "test.jsonl", Seal.FINAL) == listed / "test.jsonl"


def test_another_file_of_a_sealed_name_is_refused(listed):
    (listed / "test.jsonl").write_text('{"a": 2}\n')
    with pytest.raises(InvalidRequest, match="not the file"):
        sealed.open_file(listed / "test.jsonl", Seal.FINAL)


def test_rows_of_one_file_are_read_in_development_or_in_the_final_scoring(listed):
    developed = sealed.split_rows(listed / "mixed.jsonl", Seal.DEVELOPMENT)
    final = sealed.split_rows(listed / "mixed.jsonl", Seal.FINAL)
    assert developed and final
    assert not [row for row in developed if row in final]
    assert len(developed) + len(final) == 20


def test_the_sealed_seed_is_refused_and_a_changed_generator_is_told(listed):
    with pytest.raises(InvalidRequest, match="seed 1 is sealed"):
        sealed.generate(2, 1, Seal.DEVELOPMENT)
    with pytest.raises(InvalidRequest, match="other offers"):
        sealed.generate(2, 1, Seal.FINAL)


def test_the_generator_still_makes_the_sealed_offers():
    assert len(sealed.generate(1, 0, Seal.FINAL)) == sealed.sealed_sets().generated.count
