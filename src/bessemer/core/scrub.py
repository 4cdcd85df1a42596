"""Masks key-shaped text: the second fence of logs and error texts. The first is not to put secrets there at all.

Known by shape: keys of Bessemer, OpenAI-like vendors, Hugging Face, AWS, Google, GitHub and Slack, bearer and basic
credentials, passwords in URLs, private keys and JSON web tokens. Known by value: what `hide` was told.
"""

import json
import re

MASK = "[hidden]"
_SHORTEST = 6
"""A secret below this length is no secret, and masking it would mask ordinary words."""
_TAIL = r"[A-Za-z0-9_\-]"
_START = r"(?:(?<![A-Za-z0-9_])|(?<=\dm))"
"""Where a key may begin: not inside a word, but behind a terminal's colour code, which ends in a digit and `m`."""
_KEYS = re.compile(
    rf"""
    {_START}(?:bsm-{_TAIL}{{6,}}
    | (?:sk|pk|rk)[-_]{_TAIL}{{6,}}
    | hf_[A-Za-z0-9]{{6,}}
    | gsk_[A-Za-z0-9]{{6,}} | xai-{_TAIL}{{6,}} | nvapi-{_TAIL}{{6,}} | glpat-{_TAIL}{{6,}} | xox[a-z]-{_TAIL}{{6,}}
    | gh[pousr]_[A-Za-z0-9]{{6,}} | github_pat_[A-Za-z0-9_]{{6,}}
    | AIza{_TAIL}{{20,}}
    | (?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{{12,}}
    | eyJ{_TAIL}{{8,}}\.{_TAIL}{{8,}}(?:\.{_TAIL}*)?)
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)
_NAMED = re.compile(
    r"""(?i)
    ( \b(?:bearer|basic)[ ]+(?=\S*[\d=]|\S{20})  # not the words after "basic" in a sentence
    | \b(?:x-)?(?:api|access|secret|aws_secret_access|aws-secret-access|session)[-_ ]?(?:key|token)(?:_id)?
      ["'\\]{0,3}[ ]?[:=][ ]?(?:b?["'\\]{1,3})?
    | \btoken["'\\]{0,3}[ ]?[:=][ ]?(?:b?["'\\]{1,3})?(?=\S*[\d=]|\S{20})
    | \b(?:password|passwd|secret)["'\\]{0,3}[ ]?[:=][ ]?(?:b?["'\\]{1,3})?
    )
    (?!\[hidden) ( [^\s"'\\,;@<>)}\]]{6,} )
    """,
    re.VERBOSE,
)
_PASSWORD = re.compile(r"(://[^/\s:@\"']*:)[^/\s@\"']+(?=@)")
_KEY_HINTS = (
    *("bsm-", "k-", "k_", "hf_", "xai-", "nvapi-", "glpat-", "xox", "gh", "_pat_"),
    *("AIza", "IA", "ACCA", "eyJ", "PRIVATE KEY"),
)
_NAME_HINTS = ("bearer", "basic", "api", "access", "secret", "session", "token", "passw")
"""What each pattern needs to match at all: looking for them first takes a hundredth of the time."""
_values: tuple[str, ...] = ()
"""Longest first, so that no secret hides a longer one."""


def hide(secret: str) -> None:
    """Mask this text from now on, as it is and as JSON or `repr` writes it. Shorter than 6 characters is no secret."""
    global _values  # noqa: PLW0603 - one process has one set of secrets, wherever they are written
    for text in (secret, secret.strip()):
        if len(text) >= _SHORTEST:
            escaped = (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1])
            _values = tuple(sorted({*_values, text, *escaped}, key=len, reverse=True))


def scrub(text: str) -> str:
    """Return the text with every known or key-shaped secret replaced by `[hidden]`."""
    for value in _values:
        text = text.replace(value, MASK)
    if _holds_any(text, _KEY_HINTS):
        text = _KEYS.sub(MASK, text)
    if "://" in text:
        text = _PASSWORD.sub(lambda found: found[1] + MASK, text)
    lowered = text.lower()
    if _holds_any(lowered, _NAME_HINTS):
        text = _NAMED.sub(lambda found: found[1] + MASK, text)
    return text


def _holds_any(text: str, hints: tuple[str, ...]) -> bool:
    for hint in hints:  # noqa: SIM110 - `any` with a generator takes three times as long, at each line of a log
        if hint in text:
            return True
    return False
