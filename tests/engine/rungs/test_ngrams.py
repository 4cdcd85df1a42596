"""The extractor of n-grams equals the reference, TfidfVectorizer (L5)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from bessemer.engine.rungs.ngrams import character_grams, normalised, shape, word_grams
from bessemer.ladder.linear import count, keep, vocabulary, weighed

TEXTS = [
    "I am still waiting on my card?", "size S, 7.2mp", "Größe M ﬁne", "", "a", "42", "שלום card", "日本語 のテキスト",
    "card card card arrival", "x y z " * 5, "e-mail@example.com", "\u0000 nul",
]  # fmt: skip


def test_grams_are_those_of_the_reference():
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\w+").build_analyzer()
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5)).build_analyzer()
    for text in TEXTS:
        plain = normalised(text)
        assert sorted(word_grams(plain)) == sorted(words(plain))
        assert sorted(g for token in plain.split() for g in character_grams(token)) == sorted(characters(plain))


def test_one_letter_words_and_digits_are_kept():
    assert "s" in word_grams("size s") and "7" in word_grams("7.2mp")
    assert shape("7.2mp") == "d.dcc"


def test_rows_are_those_of_the_reference():
    options = {"sublinear_tf": True, "lowercase": False}
    found = count(TEXTS)
    rows = np.arange(len(TEXTS))
    kept = keep(found, rows)
    mine = weighed(found, kept, rows).toarray()
    plain = [normalised(text) for text in TEXTS]
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\w+", **options).fit_transform(plain)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), **options).fit_transform(plain)
    reference = np.hstack([words.toarray(), characters.toarray()])
    assert np.allclose(mine[:, : reference.shape[1]], reference, atol=1e-12)


def test_a_served_row_is_a_fitted_row():
    found = count(TEXTS)
    rows = np.arange(len(TEXTS))
    kept = keep(found, rows)
    fitted, served = weighed(found, kept, rows).toarray(), vocabulary(found, kept)
    for row, text in enumerate(TEXTS):
        vector = served.vector(text)
        dense = np.zeros(fitted.shape[1])
        dense[vector.columns] = vector.values
        assert np.allclose(dense, fitted[row], atol=1e-12)
        assert vector.known_share == pytest.approx(1.0 if text.strip() else 0.0)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=400))
def test_any_text_has_a_row(text):
    found = count(TEXTS)
    served = vocabulary(found, keep(found, np.arange(len(TEXTS))))
    vector = served.vector(text)
    assert np.isfinite(vector.values).all() and 0 <= vector.known_share <= 1
    assert np.isfinite(normalize(vector.values.reshape(1, -1)) if len(vector.values) else np.zeros(1)).all()
