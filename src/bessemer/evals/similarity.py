"""Text similarities of OpenAI's `text_similarity` grader, each in [0, 1], 1 for equal texts.

Words are lower-cased runs of letters and digits, or single other characters. Formulas:
BLEU (Papineni et al. 2002) of one sentence, n-grams up to 4 or the shorter text's length, exponential smoothing of
empty orders (Lin & Och 2004, NIST's variant); GLEU (Wu et al. 2016): min(precision, recall) over all 1- to 4-grams;
METEOR (Banerjee & Lavie 2005; α .9, β 3, γ .5) with exact and Porter-stem matches and without WordNet synonyms, which
would need a download; ROUGE-n and ROUGE-L F1 (Lin 2004) on Porter stems; fuzzy_match: RapidFuzz's `ratio`.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

import snowballstemmer
from rapidfuzz import fuzz

_WORD = re.compile(r"\w+|[^\w\s]")
_MAX_ORDER = 4
_METEOR_ALPHA, _METEOR_BETA, _METEOR_GAMMA = 0.9, 3.0, 0.5


def words(text: str) -> list[str]:
    """Split into lower-cased words and single marks."""
    return _WORD.findall(text.lower())


@cache
def _stemmer() -> Callable[[str], str]:
    stem: Callable[[str], str] = snowballstemmer.stemmer("porter").stemWord
    return stem


def _grams(tokens: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))


def bleu(candidate: str, reference: str) -> float:
    """BLEU of one sentence against one reference."""
    mine, theirs = words(candidate), words(reference)
    if not mine or not theirs:
        return float(mine == theirs)
    orders = min(_MAX_ORDER, len(mine))
    smoothing, total = 1.0, 0.0
    if not _grams(mine, 1) & _grams(theirs, 1):
        return 0.0
    for order in range(1, orders + 1):
        grams = _grams(mine, order)
        matched = (grams & _grams(theirs, order)).total()
        if matched == 0:
            smoothing *= 2.0
        total += math.log((matched or 1.0 / smoothing) / grams.total())
    brevity = min(1.0, math.exp(1.0 - len(theirs) / len(mine)))
    return brevity * math.exp(total / orders)


def gleu(candidate: str, reference: str) -> float:
    """Google-BLEU: matched over the larger count of 1- to 4-grams."""
    mine, theirs = words(candidate), words(reference)
    matched = sum((_grams(mine, n) & _grams(theirs, n)).total() for n in range(1, _MAX_ORDER + 1))
    largest = max(sum(_grams(tokens, n).total() for n in range(1, _MAX_ORDER + 1)) for tokens in (mine, theirs))
    return matched / largest if largest else float(mine == theirs)


def _align(mine: Sequence[str], theirs: Sequence[str]) -> list[tuple[int, int]]:
    """Match words one to one, exactly first, then by stem; each takes the nearest free partner to keep chunks few."""
    pairs: list[tuple[int, int]] = []
    free_mine, free_theirs = set(range(len(mine))), set(range(len(theirs)))
    for normal in (lambda word: word, _stemmer()):
        places: dict[str, list[int]] = {}
        for j in sorted(free_theirs):
            places.setdefault(normal(theirs[j]), []).append(j)
        previous = -1
        for i in sorted(free_mine):
            options = places.get(normal(mine[i]), [])
            if options:
                j = min(options, key=lambda place: (abs(place - previous - 1), place))
                options.remove(j)
                pairs.append((i, j))
                free_mine.remove(i)
                free_theirs.remove(j)
                previous = j
    return sorted(pairs)


def meteor(candidate: str, reference: str) -> float:
    """METEOR with exact and stem matches: recall-weighted harmonic mean times (1 - fragmentation penalty)."""
    mine, theirs = words(candidate), words(reference)
    if mine == theirs:
        # The published penalty would keep an identical text just below 1.
        return 1.0
    pairs = _align(mine, theirs)
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(mine), len(pairs) / len(theirs)
    mean = precision * recall / (_METEOR_ALPHA * precision + (1 - _METEOR_ALPHA) * recall)
    chunks = 1 + sum((a[0] + 1, a[1] + 1) != b for a, b in itertools.pairwise(pairs))
    return mean * (1 - _METEOR_GAMMA * math.pow(chunks / len(pairs), _METEOR_BETA))


def _stems(text: str) -> list[str]:
    return [_stemmer()(word) for word in words(text) if word[0].isalnum()]


def _f1(matched: int, mine: int, theirs: int) -> float:
    return 2 * matched / (mine + theirs) if mine + theirs else 1.0


def rouge_n(candidate: str, reference: str, order: int) -> float:
    """F1 of shared n-grams; texts shorter than the order have none, and match only each other."""
    a, b = _stems(candidate), _stems(reference)
    mine, theirs = _grams(a, order), _grams(b, order)
    if not mine and not theirs:
        return float(a == b)
    return _f1((mine & theirs).total(), mine.total(), theirs.total())


def rouge_l(candidate: str, reference: str) -> float:
    """F1 of the longest common subsequence of words."""
    mine, theirs = _stems(candidate), _stems(reference)
    row = [0] * (len(theirs) + 1)
    for word in mine:
        diagonal = 0
        for j, other in enumerate(theirs, start=1):
            above = row[j]
            row[j] = diagonal + 1 if word == other else max(above, row[j - 1])
            diagonal = above
    return _f1(row[-1], len(mine), len(theirs))


def fuzzy_match(candidate: str, reference: str) -> float:
    """Normalised indel similarity; unlike RapidFuzz's partial scorers, stuffing an answer lowers it."""
    return fuzz.ratio(candidate, reference) / 100.0


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    """Cosine of two embeddings, in [-1, 1]; 0 when one has no length."""
    norm = math.hypot(*left) * math.hypot(*right)
    return sum(a * b for a, b in zip(left, right, strict=True)) / norm if norm else 0.0


SIMILARITIES: Mapping[str, Callable[[str, str], float]] = {
    "fuzzy_match": fuzzy_match,
    "bleu": bleu,
    "gleu": gleu,
    "meteor": meteor,
    **{f"rouge_{order}": partial(rouge_n, order=order) for order in range(1, 6)},
    "rouge_l": rouge_l,
}
"""All metrics but `cosine`, which needs an embedding model."""
