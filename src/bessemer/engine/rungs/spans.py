"""Values of fields as exact spans of the input: a linear tagger of words, decoded by Viterbi.

Every word gets a tag: the beginning of a field's value (`B-Brand`), its inside (`I-Brand`), or none (`O`). Only fields
that training saw with the item's category are answered; a field without a span is absent. No value is made up.
"""

import json
import math
import re
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from bessemer.core.errors import EngineError
from bessemer.core.types import Frozen
from bessemer.engine.rungs.artefact import Arrays, Artefact
from bessemer.engine.rungs.records import Text, value_text
from bessemer.engine.rungs.rung import MAX_TEXT, Floats, Prediction, Rung, RungItem, nothing, parameters_of

KIND = "spans"
NONE_TAG = "O"
BEGIN, INSIDE = "B-", "I-"
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)?|[^\w\s]|_")
_MOST_TOKENS = 256
"""Words of a text that are tagged."""
_IMPOSSIBLE = -1e9
_REPEATED = re.compile(r"(.)\1+")
Ints = npt.NDArray[np.int64]


class Token(NamedTuple):
    """A word or a mark, and where it stands."""

    text: str
    begin: int
    end: int


def tokens_of(text: str) -> list[Token]:
    """Cut a text into words, numbers and marks."""
    return [Token(found.group(), found.start(), found.end()) for found in _TOKEN.finditer(text[:MAX_TEXT])][
        :_MOST_TOKENS
    ]


def _shape(word: str) -> str:
    letters = ("d" if c.isdigit() else "X" if c.isupper() else "x" if c.isalpha() else c for c in word)
    return _REPEATED.sub(r"\1+", "".join(letters))


def features_of(tokens: Sequence[Token], category: str) -> list[list[str]]:
    """Return what is known of each token: itself, its neighbours, its letters, its place, all with the category."""
    words = ["<<", "<", *(token.text.lower() for token in tokens), ">", ">>"]
    shapes = ["<", "<", *(_shape(token.text) for token in tokens), ">", ">"]
    n, marks = len(tokens), 0
    found: list[list[str]] = []
    for i in range(n):
        j = i + 2
        word, shape = words[j], shapes[j]
        place = f"{min(i, 4)}"
        features = [
            f"0={word}", f"-1={words[j - 1]}", f"+1={words[j + 1]}", f"-2={words[j - 2]}", f"+2={words[j + 2]}",
            f"-1,0={words[j - 1]} {word}", f"0,+1={word} {words[j + 1]}", f"s={shape}", f"-s={shapes[j - 1]}",
            f"+s={shapes[j + 1]}", f"sss={shapes[j - 1]} {shape} {shapes[j + 1]}", f"from={place}",
            f"to={min(n - 1 - i, 3)}", f"third={3 * i // n}", f"marks={marks}", f"c={category}",
            f"c0={category} {word}", f"cs={category} {shape}", f"cfrom={category} {place}",
            f"c-1={category} {words[j - 1]}", f"c+1={category} {words[j + 1]}", f"cmarks={category} {marks}",
        ]  # fmt: skip
        for size in (2, 3, 4):
            if len(word) > size:
                features += [f"^{word[:size]}", f"{word[-size:]}$"]
        found.append(features)
        marks = min(3, marks + (token_is_mark(tokens[i])))
    return found


def token_is_mark(token: Token) -> bool:
    """Whether a token parts a text: a comma, a dash, a bar."""
    return token.text in ",-|;"


class SpansParameters(Frozen, frozen=True):
    """Where the text stands, what the fields are, and how confident a tag makes."""

    source: Text | None
    """Key of the structured input that values are spans of; None: the request's text."""
    before: Text = ""
    after: Text = ""
    """What stands before and after it in every request's text."""
    category: Text | None = None
    """Key of the structured input that says what kind of item it is."""
    fields: dict[Text, tuple[Text, ...]] = {}  # noqa: RUF012 - msgspec copies it
    """By category, "" for any other: the fields that are answered."""
    free: tuple[Text, ...] = ()
    """Fields whose values are often no spans: they are handed over."""
    absent: Text | None = None
    """How the answers say that there is no value; None: they leave the field out."""
    slope: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 1.0
    offset: Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)] = 0.0
    """From a span's log-odds to its calibrated log-odds."""


class FieldValue(NamedTuple):
    """A field's value, where it stands in the text, and P(it is right)."""

    text: str
    begin: int
    end: int
    confidence: float


class Extraction(NamedTuple):
    """What is said of an item."""

    values: dict[str, FieldValue]
    """By field; a field without a value is not in it."""
    absent: dict[str, float]
    """By field without a value: P(there is none)."""
    unread: bool
    """The item has another form, or asks for fields that are no spans: it must be handed over."""


class SaidField(NamedTuple):
    """A field of an answer: its value, or what says that there is none, and P(it is right)."""

    name: str
    value: str
    confidence: float


class SpansAnswer(NamedTuple):
    """An answer as a JSON object of texts."""

    fields: tuple[SaidField, ...]
    unread: bool
    """It must be handed over, whatever the fields say."""

    @property
    def text(self) -> str:
        """The JSON object."""
        return "".join(part for part, _ in self.parts())

    def parts(self) -> list[tuple[str, float | None]]:
        """Return the text in parts; those that are a value's have its confidence, the marks between have none."""
        found: list[tuple[str, float | None]] = [("{", None)]
        for place, field in enumerate(self.fields):
            name, value = (json.dumps(text, ensure_ascii=False) for text in (field.name, field.value))
            found += [((", " if place else "") + name + ': "', None), (value[1:], field.confidence)]
        return [*found, ("}", None)]

    @property
    def confidence(self) -> float | None:
        """Mean confidence of the fields: the share that is expected to be right; None: it must be handed over."""
        if self.unread or not self.fields:
            return None
        return math.fsum(field.confidence for field in self.fields) / len(self.fields)


class Spans(Rung):
    """An opened artefact. Threads may share it. Its labels are whether all fields of an answer are right."""

    def __init__(self, artefact: Artefact) -> None:
        """Raises EngineError for arrays of another kind or shape."""
        if artefact.manifest.kind != KIND:
            raise EngineError(f"A rung of kind {artefact.manifest.kind!r} extracts nothing.")
        super().__init__(artefact)
        self.labels, self._bias = ("right", "wrong"), np.zeros(2)
        self.parameters = parameters_of(artefact, SpansParameters)
        self.tags = artefact.manifest.labels
        k = len(self.tags)
        arrays = Arrays(artefact.arrays)
        self._columns = {name: place for place, name in enumerate(arrays.strings("features"))}
        self._weights = arrays.take("weights", np.float32, len(self._columns), k)
        self._intercept = arrays.take("intercept", np.float64, k)
        self._start, self._follows = arrays.take("start", np.float64, k), arrays.take("follows", np.float64, k, k)
        arrays.done()
        if self.tags[0] != NONE_TAG or any(tag[:2] not in (BEGIN, INSIDE) for tag in self.tags[1:]):
            raise EngineError("The tags of a tagger are O, B-FIELD and I-FIELD.")
        self._allowed = {name: self._mask(fields) for name, fields in self.parameters.fields.items()}
        self._all = self._mask(sorted({tag[2:] for tag in self.tags[1:]}))

    def _mask(self, fields: Sequence[str]) -> npt.NDArray[np.bool_]:
        return np.array([tag == NONE_TAG or tag[2:] in fields for tag in self.tags])

    def text(self, item: RungItem) -> tuple[str, str] | None:
        """Return the text that values are spans of, and the category; None for an item of another form."""
        wanted = self.parameters
        if wanted.source is None:
            text = item.text
            if not (text.startswith(wanted.before) and text.endswith(wanted.after)):
                return None
            return text[len(wanted.before) : len(text) - len(wanted.after)], ""
        found = (item.input or {}).get(wanted.source)
        if not isinstance(found, str):
            return None
        return found, value_text((item.input or {}).get(wanted.category)) if wanted.category is not None else ""

    def predict(self, items: Sequence[RungItem]) -> Prediction:
        """Return P(all fields are right), as if they did not depend on each other, and P(one is not)."""
        said = self.answered(items)
        p = np.array([math.prod(field.confidence for field in one.fields) for one in said])
        unread = np.array([one.unread for one in said], np.bool_)
        return Prediction(np.stack([p, 1 - p], axis=1), nothing(len(said)), nothing(len(said)), unread)

    def answered(self, items: Sequence[RungItem], asked: Sequence[str] | None = None) -> list[SpansAnswer]:
        """Return the answers; `asked`: the fields that they may have, None: those that training saw.

        A field without a value is said to have none as training said it, or left out.
        """
        return [self._answer(one, asked) for one in self.extract(items)]

    def _answer(self, found: Extraction, asked: Sequence[str] | None) -> SpansAnswer:
        said = [SaidField(name, value.text, value.confidence) for name, value in found.values.items()]
        if self.parameters.absent is not None:
            said += [SaidField(name, self.parameters.absent, p) for name, p in found.absent.items()]
        fields = tuple(sorted(field for field in said if asked is None or field.name in asked))
        return SpansAnswer(fields, found.unread)

    def extract(self, items: Sequence[RungItem]) -> list[Extraction]:
        """Return the values of each item's fields."""
        return [self._one(item) for item in items]

    def _one(self, item: RungItem) -> Extraction:
        found = self.text(item)
        fields = () if found is None else self.parameters.fields.get(found[1], self.parameters.fields.get("", ()))
        if found is None:
            return Extraction({}, {}, unread=True)
        text, category = found
        tokens = tokens_of(text)
        values: dict[str, FieldValue] = {}
        logits = self._logits(tokens, category)
        logits = np.where(self._allowed.get(category, self._allowed.get("", self._all)), logits, _IMPOSSIBLE)
        logged = logits - _log_sum(logits)
        for begin, end, tag in self.spans(logged):
            odds = float(np.mean([_logit(logged[place, tag_at]) for place, tag_at in self._path(begin, end, tag)]))
            span = tokens[begin].begin, tokens[end - 1].end
            value = FieldValue(text[slice(*span)], *span, self._calibrated(odds))
            field = self.tags[tag][2:]
            if field not in values or value.confidence > values[field].confidence:
                values[field] = value
        missing = [field for field in fields if field not in values]
        absent = {field: self._absence(logged, field) for field in missing}
        return Extraction(values, absent, unread=bool(self.parameters.free) or not tokens)

    def _logits(self, tokens: Sequence[Token], category: str) -> Floats:
        logits = np.tile(self._intercept, (len(tokens), 1))
        for row, features in enumerate(features_of(tokens, category)):
            places = [place for name in features if (place := self._columns.get(name)) is not None]
            logits[row] += self._weights[places].sum(axis=0)
        return logits

    def _path(self, begin: int, end: int, tag: int) -> list[tuple[int, int]]:
        name = INSIDE + self.tags[tag][2:]
        inside = self.tags.index(name) if name in self.tags else tag
        return [(begin, tag), *((place, inside) for place in range(begin + 1, end))]

    def _calibrated(self, odds: float) -> float:
        scaled = self.parameters.slope * odds + self.parameters.offset
        return float(1 / (1 + np.exp(-np.clip(scaled, -30, 30))))

    def _absence(self, logged: Floats, field: str) -> float:
        """Return the chance that no token begins the field, as if tokens were independent."""
        name = BEGIN + field
        if name not in self.tags or not len(logged):
            return 1.0
        return float(np.prod(1 - np.exp(logged[:, self.tags.index(name)])))

    def spans(self, logged: Floats) -> list[tuple[int, int, int]]:
        """Return the spans (first token, token behind the last, place of the B tag) of the likeliest tags."""
        tags = viterbi(logged, self._start, self._follows)
        found: list[tuple[int, int, int]] = []
        for place, tag in enumerate(tags):
            name = self.tags[tag]
            if name.startswith(BEGIN):
                found.append((place, place + 1, tag))
            elif name.startswith(INSIDE) and found and found[-1][1] == place:
                found[-1] = (found[-1][0], place + 1, found[-1][2])
        return found


def _log_sum(logits: Floats) -> Floats:
    top = logits.max(axis=1, keepdims=True, initial=_IMPOSSIBLE)
    total: Floats = top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    return total


def _logit(logged: float) -> float:
    p = float(np.clip(np.exp(logged), 1e-6, 1 - 1e-6))
    return float(np.log(p) - np.log1p(-p))


def viterbi(logged: Floats, start: Floats, follows: Floats) -> list[int]:
    """Return the tags [n] of the greatest sum of their logarithms [n, k], of the first's and of each step's [k, k]."""
    if not len(logged):
        return []
    score, back = logged[0] + start, list[Ints]()
    for row in logged[1:]:
        steps = score[:, None] + follows
        back.append(steps.argmax(axis=0))
        score = steps.max(axis=0) + row
    tags = [int(score.argmax())]
    for step in reversed(back):
        tags.append(int(step[tags[-1]]))
    return tags[::-1]
