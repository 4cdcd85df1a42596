"""Artefacts of rungs: what is written is read; what is damaged is refused, and nothing else happens (L2)."""

import ast
import hashlib
import json
import random
import tracemalloc
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bessemer.core.errors import EngineError
from bessemer.engine.rungs import artefact, kinds
from bessemer.engine.rungs.embedding import StaticEmbedding
from bessemer.engine.rungs.head import Head
from bessemer.engine.rungs.rung import MajorityParameters, RungItem
from bessemer.ladder.fit import fit
from bessemer.ladder.lessons import Lesson
from bessemer.ladder.spans import fit_spans
from bessemer.ladder.task import VectorSource

FITTED = ("majority", "rules", "linear", "pairs", "embedding", "committee", "encoder")
EVERY = (*FITTED, "spans")
SOURCE = Path(artefact.__file__).parents[3]


def majority():
    return artefact.make("majority", ["a", "b"], MajorityParameters(), {"shares": np.array([0.25, 0.75])})


@pytest.fixture(scope="module")
def fitted():
    """An artefact of each kind, fitted on a few pairs."""
    lessons = []
    for n in range(60):
        left, right = f"drill kx{n}", f"drill kx{n + n % 2}"
        item = RungItem(input={"a": {"title": left, "price": str(n)}, "b": {"title": right, "price": str(n)}})
        lessons.append(Lesson(item, "no" if n % 2 else "yes"))
    static = StaticEmbedding(["drill", "k", "##x", "##1"], np.ones((4, 3), np.float16))
    networks = {"encoder": VectorSource("toy@1", vectors)}
    return {kind: fit(kind, lessons, static=static, networks=networks).artefact for kind in FITTED} | {"spans": spans()}


def vectors(texts):
    return np.array([[len(text), 1.0] for text in texts], np.float32)


def opened(made):
    rung = kinds.open_rung(made)
    if isinstance(rung, Head):
        rung.vectorise = vectors
    return rung


def spans():
    """A tagger, fitted on a few titles."""
    lessons = []
    for n in range(60):
        fields = {"Brand": ("Acme", "Nordwind")[n % 2], "Size": f"{n} cm" if n % 3 else "n/a"}
        title = f"{fields['Brand']} drill {n}" + (f", {n} cm" if n % 3 else "")
        lessons.append(Lesson(RungItem(input={"title": title}), json.dumps(fields)))
    return fit_spans(lessons).artefact


ITEM = RungItem(input={"a": {"title": "drill kx3", "price": "1"}, "b": {"title": "kx3", "price": ""}})


def test_what_is_written_is_read(tmp_path, fitted):
    for kind, made in fitted.items():
        artefact.write(made, tmp_path / kind)
        rung = opened(artefact.read(tmp_path / kind, sha256=made.sha256))
        assert rung.labels == (("right", "wrong") if kind == "spans" else ("no", "yes"))
        assert np.array_equal(rung.predict([ITEM]).probabilities, opened(made).predict([ITEM]).probabilities)


def test_the_layout_is_that_of_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array([1, 2], np.int64),
        "c": np.zeros(0, np.uint8),
    }
    back = safetensors.load(artefact.encode_arrays(arrays))
    assert all(np.array_equal(back[name], arrays[name]) for name in arrays)
    assert all(np.array_equal(a, arrays[n]) for n, a in artefact.decode_arrays(safetensors.save(arrays)).items())


def test_another_hash_another_kind_and_a_missing_file_are_refused(tmp_path):
    made = majority()
    artefact.write(made, tmp_path)
    with pytest.raises(EngineError, match="not the one whose sha256"):
        artefact.read(tmp_path, sha256="0" * 64)
    with pytest.raises(EngineError, match="kind 'oracle'"):
        kinds.open_rung(artefact.changed(made, kind="oracle"))
    with pytest.raises(EngineError, match="larger than"):
        artefact.read(tmp_path, max_bytes=10)
    (tmp_path / artefact.ARRAYS).unlink()
    with pytest.raises(EngineError, match="cannot be read"):
        artefact.read(tmp_path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"shares": np.array([0.5, 0.6])},
        {"shares": np.array([0.5, 0.5], np.float32)},
        {"shares": np.array([1.0])},
        {"shares": np.array([0.5, np.nan])},
        {"shares": np.array([0.5, 0.5]), "more": np.zeros(1)},
        {},
    ],
)
def test_arrays_of_another_shape_are_refused(arrays):
    with pytest.raises(EngineError):
        kinds.open_rung(reread(artefact.make("majority", ["a", "b"], MajorityParameters(), arrays)))


def reread(made):
    return artefact.decode(*artefact.encode(made))


def test_a_format_of_the_future_is_refused():
    manifest, arrays = artefact.encode(artefact.changed(majority(), format=2))
    with pytest.raises(EngineError, match="format 2"):
        artefact.decode(manifest, arrays)


def test_a_damaged_artefact_is_refused_or_is_the_same(fitted):
    """L2: with the hash of the manifest at hand, any other byte is seen."""
    random_ = random.Random(1)
    for made in fitted.values():
        for _ in range(400):
            parts = list(artefact.encode(made))
            which = random_.randrange(2)
            parts[which] = mutated(parts[which], random_)
            try:
                read = artefact.decode(*parts, sha256=made.sha256)
            except EngineError:
                continue
            assert read.sha256 == made.sha256


@pytest.mark.parametrize("kind", EVERY)
def test_a_forged_artefact_is_refused_or_answers(fitted, kind):
    """L2: hashes that fit do not help a file of unknown make: it opens and answers, or is refused."""
    answered = forged(fitted[kind], kind, 600)
    assert answered < 600


@pytest.mark.long
@pytest.mark.parametrize("kind", EVERY)
def test_ten_thousand_forged_artefacts(fitted, kind):
    assert forged(fitted[kind], kind, 10_000) < 10_000


@pytest.mark.parametrize("kind", EVERY)
def test_opening_takes_at_most_twice_the_memory_that_is_declared(fitted, kind):
    """L2: of a true artefact, and of forged ones: what the provider counts is what a rung takes."""
    bounded(fitted[kind], kind, 60)


@pytest.mark.long
@pytest.mark.parametrize("kind", EVERY)
def test_no_forged_artefact_takes_more_memory_than_is_declared(fitted, kind):
    bounded(fitted[kind], kind, 3000)


FIXED = 1 << 21
"""Bytes of a manifest and of the interpreter's own that no array declares."""


def bounded(made, seed, count):
    kinds.open_rung(made)  # the kernel is compiled and modules are imported once
    random_ = random.Random(f"{seed} memory")
    manifest, arrays = artefact.encode(made)
    tracemalloc.start()
    try:
        for place in range(count):
            forged_arrays = mutated(arrays, random_) if place else arrays
            told = msgspec.json.decode(manifest)
            told["arrays_sha256"] = hashlib.sha256(forged_arrays).hexdigest()
            declared = len(forged_arrays) + FIXED
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            try:
                read = artefact.decode(msgspec.json.encode(told), forged_arrays)
                declared = artefact.memory(read) + FIXED
                kinds.open_rung(read)
            except EngineError:
                pass
            assert tracemalloc.get_traced_memory()[1] - before <= 2 * declared
    finally:
        tracemalloc.stop()


def forged(made, seed, count):
    random_ = random.Random(seed)
    manifest, arrays = artefact.encode(made)
    answered = 0
    for _ in range(count):
        changed_arrays = mutated(arrays, random_) if random_.random() < 0.7 else arrays
        told = msgspec.json.decode(manifest)
        told["arrays_sha256"] = hashlib.sha256(changed_arrays).hexdigest()
        changed_manifest = msgspec.json.encode(told)
        if random_.random() < 0.4:
            changed_manifest = mutated(changed_manifest, random_)
        try:
            rung = opened(artefact.decode(changed_manifest, changed_arrays))
            with np.errstate(all="ignore"):
                said = rung.predict([ITEM])
        except EngineError:
            continue
        answered += 1
        assert said.probabilities.shape[0] == 1
    return answered


def mutated(data, random_):
    """Return the bytes with a few of them changed, left out or doubled."""
    made = bytearray(data)
    for _ in range(random_.randint(1, 4)):
        at = random_.randrange(len(made)) if random_.random() < 0.5 else random_.randrange(min(len(made), 400))
        what = random_.randrange(4)
        if what == 0:
            made[at] = random_.randrange(256)
        elif what == 1:
            made[at] ^= 1 << random_.randrange(8)
        elif what == 2:
            del made[at : at + random_.randint(1, 16)]
        else:
            made[at:at] = bytes(random_.randrange(256) for _ in range(random_.randint(1, 9)))
        if not made:
            return b""
    return bytes(made)


def test_nothing_in_the_product_reads_pickles():
    """L2: no module of the product imports pickle, joblib, skops, marshal, shelve or dill."""
    banned = {"pickle", "cPickle", "joblib", "skops", "marshal", "shelve", "dill", "cloudpickle"}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & banned, path
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant) and node.value.value is False, path
