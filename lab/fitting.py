"""Cuts texts that a small model's context has no room for, by an estimate of their tokens that needs no tokenizer."""


def _tokens(text: str) -> float:
    """Estimate a text's tokens from above: two letters or one other sign each, the bytes of what is not ASCII."""
    return sum((0.5 if c.isalpha() or c == " " else 1.0) if c.isascii() else len(c.encode()) for c in text)


def fitted(texts: dict[str, str], most: float) -> dict[str, str]:
    """Cut texts that together are longer than a number of tokens, the longest first; others stay as they are."""
    if sum(len(text.encode()) for text in texts.values()) <= most:
        return texts
    share, left = 0.0, len(texts)
    for size in sorted(_tokens(text) for text in texts.values()):
        share = most / left
        if size > share:
            break
        most, left = most - size, left - 1
    else:
        return texts
    return {field: cut_text(text, share) for field, text in texts.items()}


def cut_text(text: str, most: float) -> str:
    """Return the beginning of a text, up to a space where there is one."""
    if _tokens(text) <= most:
        return text
    size, end = 0.0, 0
    while (size := size + _tokens(text[end])) <= most:
        end += 1
    return text[: text.rfind(" ", 0, end + 1)] if " " in text[: end + 1] else text[:end]
