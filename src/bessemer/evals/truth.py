"""What feedback says about the right label: reading labels out of answers, and settling the truth.

An answer is a label, or says one in prose, or is unclear (None): it never counts as a label that it denies. The rules:

1. Spelling does not matter: Unicode compatibility forms (full width, composed or not), case, invisible characters,
   quotes, brackets, emphasis, `\\boxed{}`, tags (`<answer>`) and end marks around.
2. Prose is cut into clauses at marks and line ends, and before words of contrast and reason (but, because).
3. A clause says the labels that it names in whole words, the longest first ("not spam" is no "spam"), at its beginning
   or end; one character alone counts set off by a mark ("A) because"), or at the end behind a word that announces it
   ("option C", "the answer is C", not "vitamin C"). A word is whole when no letter, digit or hyphen joins it
   ("non-toxic", "spam-free"); scripts without spaces have no such borders.
4. A clause with a word of denial, doubt or condition (not, n't, no, never, without, impossible, wrong, if, ...) says
   nothing, nor does what follows a condition or "not ..., that", nor a question. A denied label does not make another
   one right, and one that the next clause takes back ("spam: false") leaves the answer unclear.
5. What all clauses say must be one label, and an answer that cannot answer is unclear. A label that the answer begins
   with, set off, stands against what later clauses merely mention, not against what they say.

Words of denial are known in English, German, French, Spanish, Italian, Portuguese, Dutch, Russian, Chinese and
Japanese; a cross denies, too. A wrong verdict on one of two labels makes the other one right; among more labels it
leaves the truth open.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from bessemer.core.errors import InvalidRequest

_QUOTES = "\"'`´“”„‟‘’‚‛«»‹›「」『』《》〈〉【】"
_EDGE = rf"[\s{_QUOTES}*()\[\]{{}}$_]"
_STRIP = re.compile(rf"^(?:{_EDGE}|[.])+|(?:{_EDGE}|[.,!;:。、，])+$")
_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufe0e\ufe0f\ufeff]")
_BOXED = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")
_MARKS = re.compile(r"([?？؟])|[,;:!\n\r。、，；！…|]|\.(?!\w)|\s[-\u2013\u2014]+\s|\u2014|(?<=^\w)\)|(?<=[\s(]\w)\)")
_TURNS = re.compile(
    r"(?=\b(?:(?<!anything )(?<!nothing )but|rather than|instead of|because|since|although|however|so|hence|therefore"
    r"|thus"
    r"|sondern|aber|statt|anstatt|weil|denn|obwohl|also|daher"
    r"|mais|plutôt que|au lieu de|parce que|car|donc"
    r"|sino|pero|en lugar de|en vez de|porque|aunque|así que"
    r"|bensì|invece di|piuttosto che|perché|ma|mas|maar|omdat"
    r"|and (?:not|it is not|it isn't|isn't)|und nicht|und kein|et non|et pas|y no|e non)\b)"
    r"|(?=而是|而不是|因为|但是|所以|但)|(?<=ではなく)|(?<=じゃなく)"
)
_DENIAL = re.compile(
    r"\b(?:not?|never|cannot|cant|wont|dont|isnt|doesnt|aint|neither|nor|nothing|none|without|except|unlikely"
    r"|hardly|scarcely|impossible|wrong|incorrect|false|untrue|mistaken|rather than|instead of|other than|anything but"
    r"|far from|rules? out|ruled out|exclude[sd]?|deny|denies|refuse[sd]?|unable|unsure|uncertain|unclear|doubt\w*"
    r"|whether|if|fails?|failed|lacks?|absent|refuted?|rejects?|rejected|free of"
    r"|nicht|kein\w*|nie|niemals|nein|ohne|weder|noch|falsch|unmöglich|statt|anstatt|ob|wenn|ausgeschlossen|kaum"
    r"|ne|pas|jamais|aucune?|non|sans|ni|faux|fausse|impossible|plutôt que|au lieu de|si|exclue?|doute"
    r"|nunca|jamás|ning[uú]na?|ningun|sin|tampoco|fals[oa]|imposible|en lugar de|en vez de|incorrect[oa]"
    r"|descart\w+|dudo"
    r"|mai|nessun[oa]?|senza|né|impossibile|invece di|piuttosto che|se|sbagliat[oa]|errat[oa]|escluso"
    r"|não|nem|sem|nunca|niet|geen|nooit|zonder"
    r"|alles andere als|tout sauf|todo menos|tutt'altro che|не|нет|ни|никогда|без|вряд ли|невозможно|неверно|ложь)\b"
    r"|n['’]t\b|\bn['’](?=\w)|不|没|沒|非|无|無|未|否|別|别|错|錯|假的|如果|是否|而不是|难说|难以|ない|ません|なく|ではあり|違|[❌✖✗✘❎🚫]"
)
_ANNOUNCES = re.compile(
    r"(?:^|[^\w\s]|_|\b(?:is|be|are|was|it's|that's|think|say|says|said|so|thus|hence|therefore|and|with|for|as|to|go"
    r"|i'd|pick|picks"
    r"|picked|choose|chose|select|selected|take|prefer|answer|answers|option|choice|letter|label|class|category|number"
    r"|case|item|response|verdict|grade|only|just|definitely|clearly|probably|likely|correct|right|best|mean|means"
    r"|ist|lautet|wäre|also|daher|mit|für|auf|wähle|nehme|antwort|möglichkeit|variante|buchstabe|lösung|klasse|stufe"
    r"|est|c'est|sera|donc|avec|pour|choisis|prends|réponse|lettre|choix|solution|classe"
    r"|es|sería|sea|entonces|con|por|elijo|escojo|respuesta|opción|letra|alternativa|clase"
    r"|è|sarebbe|quindi|scelgo|risposta|opzione|lettera|scelta"
    r"|é|seria|portanto|com|escolho|resposta|opção|is|kies|antwoord|optie|met|dus"
    r"|это|ответ|вариант|буква|выбираю|значит))\s*$"
)
"""What stands before one character alone where that is the answer and not a part of a name."""
_CONDITION = re.compile(r"\s*(?:(?:if|wenn|falls|si|se|als)\b|如果|假如)")
_SUBORDINATE = re.compile(r"\s*(?:that|dass|daß|que|che|dat|что)\b")
_TAG = re.compile(r"</?[a-z_][\w-]{0,31}>")
_CERTAIN = re.compile(
    r"\b(?:(?:without|beyond) (?:a |any )?doubt|no doubt|ohne (?:jeden )?zweifel|zweifellos|sans (?:aucun )?doute"
    r"|sin (?:ninguna )?duda|senza (?:alcun )?dubbio|not only)\b|毫无疑问|無疑|无疑|間違いなく"
)
"""Denials that affirm."""
_UNABLE = re.compile(
    r"\b(?:(?:cannot|can't|unable to|could not|couldn't) (?:answer|say|tell|decide|determine|judge)|no idea|not sure"
    r"|(?:don't|do not) know|weiß (?:es |ich )?nicht|keine ahnung|ne sais pas|no (?:lo )?sé|non (?:lo )?so)\b"
    r"|不知道|无法|わかりません|わからない"
)
_CJK = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


def plain(text: str) -> str:
    """Return text for comparing labels: one spelling (grammar, 1), trimmed of space, quotes and end marks."""
    return _STRIP.sub("", _spelt(text))


def _spelt(text: str) -> str:
    shown = _BOXED.sub(r" \1 ", _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)))
    return unicodedata.normalize("NFKC", shown.replace("**", "").replace("’", "'").casefold()).strip()


_MOST_LABELS, _LABEL_CHARACTERS = 1000, 64_000
"""Each answer is searched for all of them."""


def check_labels(labels: Sequence[str], param: str = "labels") -> None:
    """Refuse labels that answers could not tell apart. Raises InvalidRequest that names them."""
    if len(labels) > _MOST_LABELS or sum(map(len, labels)) > _LABEL_CHARACTERS:
        raise InvalidRequest(
            f"{param}: give at most {_MOST_LABELS} labels of {_LABEL_CHARACTERS} characters in all.", param=param
        )
    first: dict[str, str] = {}
    for label in labels:
        said = plain(label)
        if not said:
            raise InvalidRequest(f"{param}: {label!r} has nothing that an answer could say: use words.", param=param)
        if said in first:
            raise InvalidRequest(
                f"{param}: {first[said]!r} and {label!r} are one label (case, quotes and marks around do not count): "
                "leave one out, or rename it.",
                param=param,
            )
        first[said] = label


@lru_cache(maxsize=256)
def _words(labels: tuple[str, ...]) -> re.Pattern[str]:
    """Match the labels in whole words, the longest first."""
    parts = []
    for label in sorted({plain(label) for label in labels} - {""}, key=len, reverse=True):
        start = "" if _CJK.match(label) else r"(?<![\w+#])(?<!\w[-'./])"
        end = "" if _CJK.match(label[-1]) else r"(?![\w+#]|[-'./]\w)"
        parts.append(start + re.escape(label) + end)
    return re.compile("|".join(parts) or r"(?!)")


def parse_label(text: str | None, labels: Sequence[str]) -> str | None:
    """Return the label that `text` is or says; None when that is none or unclear (the module says how)."""
    if text is None:
        return None
    if text in labels and plain(text):
        return text
    spelling = {plain(label): label for label in reversed(labels)}
    said = plain(text)
    if said in spelling:
        return spelling[said] if said else None
    words = _words(tuple(labels))
    # Answers are set between tags: marks around, as long as no label is written so.
    clauses = _clauses(_spelt(text) if any("<" in label for label in labels) else _TAG.sub("\n", _spelt(text)))
    says = [
        [] if place and _unsaid(clauses[place - 1][0], clause) else _says(clause, words, asked=asked)
        for place, (clause, asked) in enumerate(clauses)
    ]
    if any(_taken_back(said, after, words) for said, (after, _) in zip(says, clauses[1:], strict=False)):
        return None
    named = [label for clause in says for label in clause]
    if says and len(says) > 1 and _STRIP.sub("", clauses[0][0]) in spelling and not clauses[0][1]:
        # Set off at the beginning: later clauses count where a label ends them.
        first = _STRIP.sub("", clauses[0][0])
        later = [_STRIP.sub("", clause) for clause, _ in clauses[1:]]
        ended = {
            label for clause, told in zip(later, says[1:], strict=True) for label in told if clause.endswith(label)
        }
        named = [first, *ended]
    elif _UNABLE.search(_spelt(text)):
        return None
    return spelling[named[0]] if len(set(named)) == 1 else None


def _clauses(text: str) -> list[tuple[str, bool]]:
    """Return the clauses of a text, and whether each is a question."""
    found: list[tuple[str, bool]] = []
    begin = 0
    for mark in _MARKS.finditer(text):
        found.append((text[begin : mark.start()], mark.group(1) is not None))
        begin = mark.end()
    found.append((text[begin:], False))
    return [(part, asked) for clause, asked in found for part in _TURNS.split(clause) if _STRIP.sub("", part)]


def _unsaid(before: str, clause: str) -> bool:
    """Return whether a clause is only what the one before it makes a condition for, or denies."""
    if _CONDITION.match(before):
        return True
    return _SUBORDINATE.match(clause) is not None and _DENIAL.search(_CERTAIN.sub(" ", before)) is not None


def _taken_back(said: Sequence[str], after: str, words: re.Pattern[str]) -> bool:
    """Return whether a clause denies the label of the one before it and says nothing else ("spam: false").

    One that is a denial itself is only said again ("no, never").
    """
    denies = _DENIAL.fullmatch(_STRIP.sub("", after)) is not None and not words.search(after)
    return denies and any(not _DENIAL.search(label) for label in said)


def _says(clause: str, words: re.Pattern[str], *, asked: bool) -> list[str]:
    """Return the labels that a clause says, spelt plainly."""
    clause = _STRIP.sub("", clause)
    mentions = list(words.finditer(clause))
    if asked or not mentions or _DENIAL.search(words.sub(" \0 ", _CERTAIN.sub(" ", clause))):
        return []
    said = {mention.group() for mention in mentions}
    if len(said) > 1:
        return sorted(said)
    first, last = mentions[0], mentions[-1]
    alone = len(first.group()) == 1 and not _CJK.match(first.group())
    if last.end() == len(clause) and not (alone and not _ANNOUNCES.search(clause[: last.start()])):
        return [last.group()]
    return [first.group()] if first.start() == 0 and not alone else []


def truth(
    answer: str | None,
    verdict: bool | None,  # noqa: FBT001 -- the three parts of an example, in their order
    demonstration: str | None,
    labels: Sequence[str] = (),
) -> str | None:
    """Return the right answer when the feedback settles it, else None.

    A demonstration is the truth; a right verdict makes the answer the truth; a wrong one settles it only between two
    labels. With `labels`, the truth is one of them, spelt as there.
    """
    if demonstration is not None:
        return parse_label(demonstration, labels) if labels else demonstration
    if verdict is None or answer is None:
        return None
    if verdict:
        return parse_label(answer, labels) if labels else answer
    said = parse_label(answer, labels)
    if said is None or len(labels) != 2:
        return None
    return labels[1] if said == labels[0] else labels[0]
