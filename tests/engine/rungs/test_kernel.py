"""The compiled part of rungs says what Python and numpy say without a compiler (L5)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.engine.rungs.artefact import make
from bessemer.engine.rungs.kernel import kernel
from bessemer.engine.rungs.kinds import open_rung
from bessemer.engine.rungs.ngrams import Block, Vocabulary, grams
from bessemer.engine.rungs.pairs import Comparer, FieldSpec, FieldType, Weighted, feature_names
from bessemer.engine.rungs.rung import MajorityParameters, RungItem
from bessemer.engine.rungs.texts import PackedTexts
from bessemer.engine.rungs.trees import Trees

WORDS = (
    "drill", "drills", "dril", "kx-10", "kx10", "KX 10", "and", "sand", "&", ",", ";", "7.2mp", "7,2", "1,000",
    "1.000,5", "12", "0012", "1e5", "-3", "5 kg", "5kg", '10"', "10 inch", "3 - 4 cm", "0.5l", "500 ml", "a", "an", "I",
    "müller", "Straße", "ﬁne", "日本語", "שלום", "٣٤", "½", "²", "Ⅷ", "፩", "👩‍👩‍👧", "e\u0301", "x" * 70, "9" * 80,
    "_", "a_b", "o'neil", "$", "€ 5",
)  # fmt: skip
WRITTEN = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join),
    st.text(max_size=60),
    st.text("abc ", min_size=1, max_size=150),
    st.sampled_from(["", "a", "a b", "b, a and c", "12.50", "$1,299.00", "2 Dec 2024", "2024-12-02", "12/2024"]),
)
FIELDS = (
    FieldSpec(name="code", type=FieldType.CODE),
    FieldSpec(name="day", type=FieldType.DATE),
    FieldSpec(name="list", type=FieldType.LIST),
    FieldSpec(name="number", type=FieldType.NUMBER),
    FieldSpec(name="title", type=FieldType.TEXT),
)
IDF = Weighted.of({"drill": 2.5, "kx": 4.0, "10": 1.5, "and": 0.001, "müller": 3.25, "a": 0.5}, 6.0)
SIGNS = Weighted.of({"=drill": 1.5, "-kx": -2.0, "+10": 0.25, "10|drill": -0.5, "=a": 0.1}, -0.75)


def without_compiler(make):
    """Return what is made on a machine that has none."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PATH", "")
        kernel.cache_clear()
        made = make()
        kernel.cache_clear()
    return made


@pytest.fixture(scope="module", autouse=True)
def compiler():
    if kernel() is None:
        pytest.skip("there is no C compiler")


def comparers():
    for fields in (FIELDS, FIELDS[4:], FIELDS[2:3]):
        yield Comparer(fields, IDF, SIGNS), without_compiler(lambda fields=fields: Comparer(fields, IDF, SIGNS)), fields


COMPARERS = list(comparers())


@settings(max_examples=400, deadline=None)
@given(st.lists(WRITTEN, min_size=10, max_size=10))
def test_records_compare_alike(values):
    names = [field.name for field in FIELDS]
    pair = dict(zip(names, values[:5], strict=True)), dict(zip(names, values[5:], strict=True))
    for compiled, plain, fields in COMPARERS:
        (mine, known), (expected, expected_known) = compiled.rows([pair]), plain.rows([pair])
        wrong = [name for name, a, b in zip(feature_names(fields), mine[0], expected[0], strict=True)
                 if not np.isclose(a, b, rtol=1e-9, atol=1e-9, equal_nan=True)]  # fmt: skip
        assert not wrong, wrong
        assert np.allclose(known, expected_known, atol=1e-12)
        swapped, _ = compiled.rows([pair[::-1]])
        assert np.array_equal(mine, swapped, equal_nan=True)


def test_many_records_are_compared_as_one_by_one():
    random_ = np.random.default_rng(1)
    words = [word for word in WORDS if word]
    texts = [" ".join(random_.choice(words, random_.integers(0, 30))) for _ in range(1600)]
    records = [
        dict(zip(("code", "list", "number", "title"), texts[at : at + 4], strict=True)) for at in range(0, 1600, 4)
    ]
    pairs = list(zip(records[::2], records[1::2], strict=True))
    compiled, plain, _ = COMPARERS[0]
    together = compiled.rows(pairs)[0]
    assert np.array_equal(together, np.concatenate([compiled.rows([pair])[0] for pair in pairs]), equal_nan=True)
    assert np.allclose(together, plain.rows(pairs)[0], rtol=1e-9, atol=1e-9, equal_nan=True)


@settings(max_examples=300, deadline=None)
@given(st.lists(WRITTEN, min_size=1, max_size=4))
def test_texts_weigh_alike(texts):
    compiled, plain, weights = VOCABULARIES
    mine, expected = compiled.logits(texts, weights), plain.logits(texts, weights)
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(mine, expected, strict=True))


def vocabularies():
    texts = [" ".join(WORDS[at : at + 6]) for at in range(len(WORDS))]
    found = [sorted({gram for text in texts for gram in grams(text)[block]}) for block in range(3)]
    random_ = np.random.default_rng(0)
    blocks = [Block(PackedTexts.of(names), random_.uniform(1, 5, len(names)), 5.5) for names in found]
    weights = random_.normal(size=(sum(map(len, found)), 7)).astype(np.float32)
    return Vocabulary(blocks), without_compiler(lambda: Vocabulary(blocks)), weights


VOCABULARIES = vocabularies()


def test_trees_give_the_same_values():
    """Rows with missing values, too."""
    random_ = np.random.default_rng(3)
    here = np.arange(1, 63)
    trees = Trees.make(
        feature=random_.integers(0, 5, 63).astype(np.int32),
        threshold=random_.normal(size=63),
        missing_left=random_.integers(0, 2, 63).astype(np.uint8),
        left=np.append(np.where(here <= 31, 2 * here - 1, here - 1), 62).astype(np.int32),
        right=np.append(np.where(here <= 31, 2 * here, here - 1), 62).astype(np.int32),
        value=random_.normal(size=63),
        roots=np.array([0, 1, 2], np.int32),
        column=np.array([0, 1, 0], np.int32),
        base=np.array([0.5, -0.5]),
    )
    rows = random_.normal(size=(1000, 5))
    rows[random_.random(rows.shape) < 0.2] = np.nan
    expected = without_compiler(lambda: trees.outputs(rows))
    assert np.allclose(trees.outputs(rows), expected, atol=1e-12)


def test_a_text_that_is_there_twice_is_refused():
    with pytest.raises(ValueError, match="twice"):
        kernel().table(PackedTexts.of(["a", "b", "a"]))
    with pytest.raises(ValueError, match="twice"):
        without_compiler(repeated)


def repeated():
    block = Block(PackedTexts.of(["a", "a"]), np.ones(2), 1.0)
    return Vocabulary([block, block, block])


def test_any_number_of_items_is_answered_in_bounded_memory():
    """L14: what is answered in parts is what is answered at once, and no part is larger than asked for."""
    rung = open_rung(make("majority", ["a", "b"], MajorityParameters(), {"shares": np.array([0.25, 0.75])}))
    parts = list(rung.predict_all((RungItem(str(n)) for n in range(2500)), rows=1000))
    assert [len(part.probabilities) for part in parts] == [1000, 1000, 500]
