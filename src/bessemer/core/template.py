"""Templates in the form of OpenAI's graders: `{{item.title}}`, `{{sample.output_text}}`. No logic, no loops.

Two pure functions of texts compare fields: `{{common(input.left, input.right)}}` gives the words of the first that are
in the second as well, `{{only(input.left, input.right)}}` those that are not. A causal model reads the first record
before it has seen the second; showing what differs spares it that comparison, and tokens.

Whatever else of a template looks like a placeholder is refused, never left as text: another spelling (`{item.title}`,
`{{item['title']}}`, `{% if %}`) would reach a model or a comparison literally. Values are never looked at.

In grammars, `{{object(input.names)}}` writes the rules of a JSON object with these members, in any order, each once at
most.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from bessemer.core.errors import InvalidRequest
from bessemer.core.models import Prompt
from bessemer.core.types import JSON

_PATH = r"[A-Za-z_][\w-]*(?:\.[\w-]+)*"
_PLACEHOLDER = re.compile(
    rf"\{{\{{\s*(?:(?P<function>common|only)\(\s*(?P<first>{_PATH})\s*,\s*(?P<second>{_PATH})\s*\)"
    rf"|object\(\s*(?P<names>{_PATH})\s*\)|(?P<path>{_PATH}))\s*\}}\}}"
)
_INDEX = re.compile(r"[0-9]{1,9}")
_ROOTS = r"(?:item|sample|input)"
_LOOK_ALIKES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\{\{[^{}]*\}{0,2}",  # two braces around what is no path: a filter, an index in brackets, a space in a name
        r"(?<!\w)\{\0\}",  # three braces; after a word they are LaTeX's one and the placeholder's two
        r"\{%[-+]?[^\S\n]*\w[^{}\n]*\}?",  # Jinja's statements
        r"\{#[^{}\n]{0,200}#\}",  # and its comments
        rf"\{{\\?\s*{_ROOTS}\s*(?:[.\[|!\\][^{{}}\n]*\}}*|\}})",  # one brace: f-strings, shells, str.format
        rf"\$\(?{_ROOTS}\.\w\S*",
        rf"%\({_ROOTS}\b[^)\n]{{0,200}}\)s?",
        rf"<%[-=]?\s*{_ROOTS}\b[^>\n]*>?",
        rf"(?:\[\[|<<)\s*{_ROOTS}\.[^\]>\n]{{0,200}}(?:\]\]|>>)",
        rf"&(?:lbrace|lcub|#123|#x7b);\s*(?:&[#\w]+;)?\s*{_ROOTS}\b\S*",
    )
)
_REMEDY = "Write {{%s.field}}, {{%s.field.inner}} or {{%s.list.0}}; there are no filters, indexes in brackets or logic."
MOST_MEMBERS = 64
"""Names that the parameter of a llguidance rule can count off, one bit each."""


def look_up(path: str, scope: Mapping[str, Any]) -> Any:
    """Return the value at a dotted path; list indexes are numbers. Raises InvalidRequest naming the missing part."""
    value: Any = scope
    for part in path.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list | tuple) and _INDEX.fullmatch(part) and int(part) < len(value):
            value = value[int(part)]
        else:
            raise InvalidRequest(f"The template refers to {path!r}, but {part!r} is not there.", param=path)
    return value


LARGEST = 1 << 24
"""Characters of all the values that one template is filled with: as many as the largest body of a request has bytes."""
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")


@lru_cache(maxsize=1024)
def check(template: str, roots: tuple[str, ...]) -> None:
    """Refuse a template with a name of no known root, or with anything that looks like a placeholder and is none.

    `roots`: the names that paths may begin with. Raises InvalidRequest that quotes the place.
    """
    for path in placeholders(template):
        root = path.split(".")[0]
        if root not in roots:
            raise InvalidRequest(
                f"The template refers to {path!r}, but {root!r} is not there; names begin with "
                f"{' or '.join(f'`{name}`' for name in sorted(roots))}.",
                param=path,
            )
    # Full-width and other compatible forms of a brace read like one. One by one: a whole text takes the square of its
    # longest run of marks.
    rest = _BEYOND_ASCII.sub(lambda match: unicodedata.normalize("NFKC", match[0]), _PLACEHOLDER.sub("\0", template))
    strange = _look_alike(rest)
    if strange is not None:
        root = min(roots)
        raise InvalidRequest(
            f"{strange!r} in the template looks like a placeholder and is none. {_REMEDY % (root, root, root)}",
            param=strange,
        )


def _look_alike(rest: str) -> str | None:
    """Return what of a template, its placeholders replaced by NUL, looks like one; None when nothing does."""
    found = [match for pattern in _LOOK_ALIKES if (match := pattern.search(rest))]
    first = min(found, key=lambda match: match.start(), default=None)
    strange = _unopened(rest) if first is None else first.group()
    return None if strange is None else strange[:80].replace("\0", "{{…}}")


def _unopened(rest: str) -> str | None:
    """Return the line's end before a `}}` that nothing opened, or a third brace at a placeholder's end; those that end
    nested objects are text."""
    if "}" not in rest:
        return None
    depth = 0
    for at, character in enumerate(rest):
        if character == "{":
            depth += 1
        elif character == "}":
            if (depth < 2 and rest.startswith("}}", at)) or (not depth and rest[at - 1 : at] == "\0"):
                return rest[max(rest.rfind("\n", 0, at) + 1, at - 40) : at + 2]
            depth = max(depth - 1, 0)
    return None


def render(template: str, scope: Mapping[str, Any]) -> str:
    """Fill every placeholder: strings as they are, other values as JSON.

    Raises InvalidRequest for an unknown name, for what `check` refuses, and for values of more than `LARGEST` in all.
    """
    check(template, tuple(scope))
    texts = _Texts()
    return _PLACEHOLDER.sub(lambda match: _filled(match, scope, texts), template)


def render_grammar(template: str, input: JSON) -> str:
    """Fill a Lark grammar template; strings are inserted JSON-escaped, so write the placeholder inside quotes.

    Escaping keeps input from closing the grammar's string and rewriting its rules. Other values are JSON as they stand:
    `%json {"enum": {{input.names}}}` takes a list.
    """
    scope = {"input": input}
    check(template, tuple(scope))
    texts = _Texts()

    def fill(match: re.Match[str]) -> str:
        if match["names"] is not None:
            return object_rules(look_up(match["names"], scope), match["names"])
        if match["function"] is None and not isinstance(look_up(match["path"], scope), str):
            return _filled(match, scope, texts)
        return msgspec.json.encode(_filled(match, scope, texts)).decode()[1:-1]

    return _PLACEHOLDER.sub(fill, template)


def object_rules(names: Any, path: str) -> str:
    """Return the Lark rules `object`, `member` and `more` of a JSON object, whose values are what a rule `value` says.

    Each name may be used once: the rules carry a parameter that counts names off, one bit for each (llguidance,
    docs/parametric.md). Raises InvalidRequest that names the path unless it holds 1 to 64 different strings.
    """
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise InvalidRequest(f"{path!r} must be a list of names to make an object of.", param=path)
    if not 1 <= len(names) <= MOST_MEMBERS or len(set(names)) < len(names):
        raise InvalidRequest(f"{path!r} must hold 1 to {MOST_MEMBERS} different names.", param=path)

    def quoted(text: str) -> str:
        return msgspec.json.encode(text).decode()

    members = (
        f"{quoted(quoted(name) + ':')} value more::set_bit({bit}) %if bit_clear({bit})"
        for bit, name in enumerate(names)
    )
    return (
        'object: "{" member::0x0 | "{}"\n'
        f"member::_: {' | '.join(members)}\n"
        f'more::_: "}}" | "," member::_ %if not(is_ones([0:{len(names)}]))\n'
    )


class _Texts:
    """Values as text, of one template: a short template of many placeholders must not make a text without end."""

    def __init__(self) -> None:
        self._left = LARGEST

    def of(self, value: Any) -> str:
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        self._left -= len(text)
        if self._left < 0:
            raise InvalidRequest(f"The template's values have more than {LARGEST} characters: refer to less.")
        return text


def _filled(match: re.Match[str], scope: Mapping[str, Any], texts: _Texts) -> str:
    if match["names"] is not None:
        raise InvalidRequest(
            f"object({match['names']}) writes the rules of a grammar; in a text, use the path alone.",
            param=match["names"],
        )
    if match["function"] is None:
        return texts.of(look_up(match["path"], scope))
    first, second = (texts.of(look_up(match[name], scope)) for name in ("first", "second"))
    return shared_words(first, second, keep=match["function"] == "common")


def shared_words(first: str, second: str, *, keep: bool) -> str:
    """Return the words of `first`, in order, that `second` has too (`keep`) or has not; repetitions are counted.

    Words without a letter or digit are left out: "a , b" and "a b" have the same words, and marks cost tokens.
    """
    left = Counter(second.split())
    chosen = []
    for word in first.split():
        if not any(character.isalnum() for character in word):
            continue
        present = left[word] > 0
        left[word] -= present
        if present == keep:
            chosen.append(word)
    return " ".join(chosen)


def placeholders(template: str) -> tuple[str, ...]:
    """Return the dotted paths that a template refers to, in order of appearance."""
    return tuple(
        match[name]
        for match in _PLACEHOLDER.finditer(template)
        for name in ("path", "names", "first", "second")
        if match[name] is not None
    )


def render_messages(prompt: Prompt, input: JSON) -> tuple[JSON, ...]:
    """Return the chat messages of a prompt filled with structured input: the system message if any, then the user's.

    Raises InvalidRequest that names a placeholder the input lacks.
    """
    scope = {"input": input}
    user = {"role": "user", "content": render(prompt.user, scope)}
    if prompt.system is None:
        return (user,)
    return ({"role": "system", "content": render(prompt.system, scope)}, user)
