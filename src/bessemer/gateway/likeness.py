"""Whether two questions that lie close together may want one answer: sentence encoders hardly see what turns a meaning.

A negation, a number, a name, an opposite, two names in the other order: each moves a vector less than an honest
paraphrase does. What is found here rules a likeness out; what is not found proves none. English words; numbers, names
and quotations of any language with letters of two cases.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_WORD: Final = re.compile(r"\d+(?:[.,:/-]\d+)*%?|[^\W\d_]+(?:['’][^\W\d_]+)?", re.UNICODE)
_QUOTED: Final = re.compile(r"[`\"“]([^`\"“”]+)[`\"”]|https?://\S+")
_SENTENCE: Final = re.compile(r"(?<=[.!?:\n])\s+|\n")
_NEGATIONS: Final = _set(
    "not no never none nobody nothing neither nor without cannot cant dont doesnt didnt isnt arent wasnt werent wont "
    "wouldnt shouldnt couldnt hasnt havent hadnt aint hardly barely except unless stop avoid fail fails failed lack "
    "lacks false"
)
_NUMBERS: Final = {
    word: str(value)
    for value, words in enumerate(
        (
            "zero",
            "one once single",
            "two twice second double pair",
            "three third triple",
            "four fourth",
            "five fifth",
            "six sixth",
            "seven seventh",
            "eight eighth",
            "nine ninth",
            "ten tenth",
            "eleven",
            "twelve dozen",
        )
    )
    for word in words.split()
} | {"twenty": "20", "thirty": "30", "fifty": "50", "hundred": "100", "thousand": "1000", "million": "1000000"}
_OPPOSITES: Final = tuple(
    (_set(one), _set(other))
    for one, other in (
        ("enable enabling enabled", "disable disabling disabled"),
        ("allow allowed", "deny denied forbid forbidden block blocked"),
        ("open opening", "close closing closed"),
        ("start starting", "stop stopping end ending"),
        ("increase raise", "decrease lower reduce"),
        ("add adding", "remove removing delete"),
        ("before", "after"),
        ("above over", "below under"),
        ("more", "less fewer"),
        ("most", "least"),
        ("maximum max highest largest", "minimum min lowest smallest"),
        ("buy buying", "sell selling"),
        ("send sent", "receive received"),
        ("import", "export"),
        ("encrypt", "decrypt"),
        ("hot", "cold"),
        ("legal", "illegal"),
        ("love", "hate"),
        ("win", "lose"),
        ("always", "never"),
        ("all", "none some"),
        ("true", "false"),
        ("left", "right"),
        ("first", "last"),
        ("early", "late"),
        ("income", "expense"),
        ("credit", "debit"),
        ("deposit", "withdraw withdrawal"),
        ("lock locked", "unlock unlocked"),
        ("connect", "disconnect"),
        ("install", "uninstall"),
        ("accept", "reject refuse"),
        ("include", "exclude"),
        ("public", "private"),
        ("internal", "external"),
        ("old older oldest", "new newer newest"),
        ("up upgrade", "down downgrade"),
        ("with", "without"),
        ("who", "what"),
        ("when", "where why"),
        ("advantages pros benefits", "disadvantages cons risks"),
        ("mother", "father"),
        ("husband", "wife"),
        ("today", "tomorrow yesterday"),
        ("day", "night"),
        ("morning", "evening"),
        ("summer", "winter"),
        ("north", "south"),
        ("east", "west"),
    )
)
_PREFIXES: Final = ("un", "in", "im", "il", "ir", "non", "dis", "mis", "anti", "re", "de")
_DIRECTIONS: Final = _set("from to into than before after by over under against beats versus vs")
_FUNCTION: Final = _set(
    "a an the is are was were be been am do does did can could will would should shall may might must i me my mine we "
    "us our you your it its this that these those of in on at for to from into with by as and or but so if then there "
    "here how what which who whom whose when where why please kindly tell show just also really actually hi hello hey "
    "thanks thank have has had get got need want like know about any some much many help give explain let"
)


class _Reading(NamedTuple):
    words: list[str]
    numbers: list[str]
    negations: int
    names: set[str]
    quoted: list[str]
    content: list[str]


def may_be_alike(left: str, right: str) -> bool:
    """Return False where something in two questions says that their answers differ."""
    a, b = _read(left), _read(right)
    if a.numbers != b.numbers or a.negations != b.negations or a.quoted != b.quoted:
        return False
    mine, theirs = set(a.words), set(b.words)
    if (a.names | b.names) - (mine & theirs):
        return False
    return not (_opposed(mine - theirs, theirs - mine) or _turned(a, b) or _replaced(a.content, b.content))


def _read(text: str) -> _Reading:
    words, names = [], set()
    for sentence in _SENTENCE.split(text):
        for place, found in enumerate(_WORD.finditer(sentence)):
            word = found.group().replace("’", "'")
            if word != "I" and word[0].isupper() and (place or word[1:].isupper() or not word[1:].islower()):
                names.add(word.casefold())
            words.append(word.casefold())
    numbers = [_NUMBERS.get(word, word.replace(",", "")) for word in words if word in _NUMBERS or word[0].isdigit()]
    negations = sum(word in _NEGATIONS or word.endswith("n't") for word in words)
    plain = [word.removesuffix("'s") for word in words if word not in _NUMBERS and not word[0].isdigit()]
    content = [word for word in plain if word not in _FUNCTION]
    return _Reading(words, numbers, negations, names - _FUNCTION, _QUOTED.findall(text), content)


def _opposed(mine: set[str], theirs: set[str]) -> bool:
    """Tell whether words that one question alone has are the opposites of the other's."""
    for one, other in _OPPOSITES:
        if (mine & one and theirs & other) or (mine & other and theirs & one):
            return True
    return any(
        longer.startswith(prefix) and longer[len(prefix) :] in shorter
        for some, shorter in ((mine, theirs), (theirs, mine))
        for longer in some
        for prefix in _PREFIXES
    )


def _turned(a: _Reading, b: _Reading) -> bool:
    """Tell whether the words that both have stand in another order where order says who does what to whom."""
    first, second = ([word for word in one if one.count(word) == 1] for one in (a.content, b.content))
    shared = set(first) & set(second)
    same = [word for word in first if word in shared] == [word for word in second if word in shared]
    directed = _DIRECTIONS & {*a.words, *b.words} or Counter(a.content) == Counter(b.content)
    return not same and bool(directed)


def _replaced(first: Sequence[str], second: Sequence[str]) -> bool:
    """Tell whether all but one word is the same: a thing, a place or a condition is another one, or has come."""
    mine, theirs = Counter(first) - Counter(second), Counter(second) - Counter(first)
    left, right = list(mine.elements()), list(theirs.elements())
    for word in list(left):
        if (form := next((one for one in right if _one_word(word, one)), None)) is not None:
            left.remove(word)
            right.remove(form)
    return max(len(left), len(right)) == 1


def _one_word(a: str, b: str) -> bool:
    """Tell whether two words are likely forms of one (card, cards)."""
    shorter, longer = sorted((a, b), key=len)
    stem = shorter[: max(3, len(shorter) - 1)]
    return len(shorter) > 2 and longer.startswith(stem) and len(longer) - len(stem) <= 4
