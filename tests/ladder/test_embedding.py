"""The rung on a static embedding; its tokens are those of the reference."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from bessemer.core.errors import InvalidRequest
from bessemer.engine.rungs import artefact
from bessemer.engine.rungs.embedding import StaticEmbedding, vote
from bessemer.engine.rungs.kinds import load
from bessemer.engine.rungs.rung import RungItem
from bessemer.engine.rungs.wordpiece import WordPiece
from bessemer.ladder.fit import fit, suits
from bessemer.ladder.lessons import Lesson

TOPICS = {"card": "card plastic chip pin", "money": "money cash cheque top", "rate": "rate exchange currency fx"}
TOKENS = ["[UNK]", *(word for words in TOPICS.values() for word in words.split()), "my", "the", "##s", "?", "ne", "##w"]


@pytest.fixture(scope="module")
def static():
    """Words of one topic have nearly one vector."""
    random_ = np.random.default_rng(0)
    centres = {topic: random_.normal(size=16) for topic in TOPICS}
    vectors = [
        next((centres[topic] for topic, words in TOPICS.items() if token in words.split()), np.zeros(16))
        + 0.05 * random_.normal(size=16)
        for token in TOKENS
    ]
    return StaticEmbedding(TOKENS, np.array(vectors, np.float16))


LESSONS = [
    Lesson(RungItem(f"my {word} {more}"), topic)
    for topic, words in TOPICS.items()
    for word in words.split()[:3]
    for more in ("", "the", "?")
]


def test_tokens_are_those_of_the_reference():
    vocabulary = {token: place for place, token in enumerate(TOKENS)}
    reference = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    reference.normalizer = normalizers.BertNormalizer()
    reference.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    mine = WordPiece(vocabulary)
    for text in (
        "My new cards?",
        "the PIN, my chíp!",
        "cash\tTop\u200b",
        "new?news",
        "日 card",
        "x" * 200,
        "",
        "card-rate",
    ):
        expected = [place for place in reference.encode(text).ids if place != 0]
        assert mine.ids(text) == expected, text


def test_it_knows_words_that_no_lesson_had(static, tmp_path):
    made = fit("embedding", LESSONS, static=static)
    artefact.write(made.artefact, tmp_path)
    rung = load(tmp_path, sha256=made.artefact.sha256)
    said = rung.predict([RungItem("pin"), RungItem("top"), RungItem("fx")])
    assert [rung.labels[place] for place in rung.answers(said)] == ["card", "money", "rate"]
    assert said.probabilities.sum(axis=1) == pytest.approx(1.0)


def test_equal_lessons_make_equal_artefacts(static):
    """L9"""
    a, b = (fit("embedding", rows, static=static).artefact.sha256 for rows in (LESSONS, LESSONS[::-1]))
    assert a == b


def test_pairs_are_compared_whatever_their_order(static):
    """L7"""
    words = [word for text in TOPICS.values() for word in text.split()]
    topic = {word: name for name, text in TOPICS.items() for word in text.split()}
    lessons = [
        Lesson(RungItem(input={"left": {"t": a}, "right": {"t": b}}), "same" if topic[a] == topic[b] else "other")
        for a in words
        for b in words
        if a != b
    ]
    rung_of = fit("embedding", lessons, static=static)
    from bessemer.engine.rungs.kinds import open_rung

    rung = open_rung(rung_of.artefact)
    items = [RungItem(input={"left": {"t": "my card"}, "right": {"t": "the pin"}})]
    turned = [RungItem(input={"left": {"t": "the pin"}, "right": {"t": "my card"}})]
    assert np.array_equal(rung.predict(items).probabilities, rung.predict(turned).probabilities)
    assert rung.predict([RungItem("no pair")]).unread.all()


def test_neighbours_vote_and_say_how_far_they_are():
    known = np.eye(3, dtype=np.float32)
    votes, distance = vote(np.array([[1.0, 0.0, 0.0]], np.float32), known, np.array([0, 1, 1], np.int32), 2)
    assert votes[0, 0] > 0.99 and distance[0] == pytest.approx(1.0)
    nobody, far = vote(known, np.zeros((0, 3), np.float32), np.zeros(0, np.int32), 2)
    assert nobody.tolist() == [[0.5, 0.5]] * 3 and np.isnan(far).all()


def test_without_an_encoder_it_says_so():
    assert suits("embedding", LESSONS)
    with pytest.raises(InvalidRequest, match="sentence encoder"):
        fit("embedding", LESSONS)
