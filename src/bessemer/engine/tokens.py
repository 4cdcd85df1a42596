"""Text to tokens and back, and the chat template, from a GGUF header or a Hugging Face folder.

Control tokens come from the template alone. What a text spells like one, a message, an answer, a label, is read as the
plain characters it is, so nobody's text can end its turn or begin another's. Texts that spell none are encoded together
with their template, exactly as the tokenizer does it.

A model without a chat template (a base model) gets a plain one: message contents separated by blank lines, then a blank
line where the answer begins; its turns end with the tokenizer's end-of-sequence token.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from bessemer.core.errors import EngineError, InvalidRequest
from bessemer.core.types import JSON
from bessemer.engine.gguf_file import GgufFile

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}\n\n{% endfor %}"  # generation starts after the blank line
)
_TERMINATORS = ("<|im_end|>", "<end_of_turn>", "<|eot_id|>", "<|end|>", "</s>", "<|endoftext|>", "<eos>")
_CONTROL, _USER_DEFINED, _BYTE = 3, 4, 6
_LONG = 16_384
"""Characters from which a text is encoded without holding the interpreter: other threads go on meanwhile."""
_FIRST_MARK, _LAST_MARK = 0xF0000, 0xFFFFD
"""A private-use plane of Unicode, for a character that no text of a conversation holds."""
_SPACE = "▁"


class Tokens:
    """A tokenizer with its template and its end tokens."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        template: str | None,
        eos_ids: frozenset[int],
        bos_id: int | None,
        add_bos: bool,
        spaced: bool,
    ) -> None:
        """`spaced`: pieces spell a space as U+2581 and bytes as <0xNN>; otherwise in GPT-2's byte alphabet."""
        self._tokenizer = tokenizer
        self.template = template
        self.bos_id = bos_id
        self._add_bos = add_bos
        self._spaced = spaced
        self.vocab_size: int = tokenizer.get_vocab_size(with_added_tokens=True)
        self.terminator = self._find_terminator(eos_ids)
        self.eos_ids = eos_ids | {self.terminator}
        added = tokenizer.get_added_tokens_decoder()
        self._silent = frozenset(index for index, token in added.items() if token.special)
        control = {token.content: index for index, token in added.items() if self._steers(index, token)}
        self._control = control
        self._control_pattern = re.compile(_any_of(control)) if control else None
        self._plain = _without(tokenizer, control)

    @classmethod
    def load(cls, path: Path) -> "Tokens":
        """Read the tokenizer of a GGUF file or of a folder with tokenizer.json. Raises EngineError."""
        if path.is_dir():
            return _from_folder(path)
        return _from_gguf(GgufFile(path))

    @cached_property
    def longest_piece(self) -> int:
        """Bytes of the longest token: n characters of text are at least n / longest_piece tokens."""
        return max(map(len, self._bytes))

    def encode(self, text: str) -> list[int]:
        """Return the ids of a plain text: nothing is added, and a control token spelled in it stays text."""
        return _ids(self._plain, text)

    def render(self, messages: Sequence[JSON], *, add_generation_prompt: bool = True) -> str:
        """Return the text the model reads. Raises InvalidRequest when the template refuses the messages."""
        from jinja2 import TemplateError

        plain = [{**message, "content": _text_of(message)} for message in messages]
        try:
            return str(
                self._compiled.render(
                    messages=plain,
                    add_generation_prompt=add_generation_prompt,
                    bos_token=self._piece(self.bos_id),
                    eos_token=self._piece(self.terminator),
                )
            )
        except TemplateError as error:
            raise InvalidRequest(f"messages do not fit the model's chat template: {error}", param="messages") from error

    def encode_chat(self, messages: Sequence[JSON], *, add_generation_prompt: bool = True) -> list[int]:
        """Return the ids of a rendered conversation, the beginning-of-sequence token included where there is one.

        Control tokens are the template's own; see the module. Raises InvalidRequest as `render` does.
        """
        ids = self._encode_rendered(messages, add_generation_prompt=add_generation_prompt)
        if self._add_bos and self.bos_id is not None and ids[:1] != [self.bos_id]:
            return [self.bos_id, *ids]
        return ids

    def _encode_rendered(self, messages: Sequence[JSON], *, add_generation_prompt: bool) -> list[int]:
        messages = [{**message, "content": _text_of(message)} for message in messages]
        pattern = self._control_pattern
        texts = [text for message in messages for text in _texts(message)]
        if pattern is None or not any(map(pattern.search, texts)):
            return _ids(self._tokenizer, self.render(messages, add_generation_prompt=add_generation_prompt))
        # A mark inside each spelled control token hides it from the split below, which finds the template's own.
        mark = _unused_character(texts)
        hidden = [_mapped(message, lambda text: _broken(text, pattern, mark)) for message in messages]
        rendered = self.render(hidden, add_generation_prompt=add_generation_prompt)
        ids: list[int] = []
        end = 0
        for match in pattern.finditer(rendered):
            ids += [*self.encode(rendered[end : match.start()].replace(mark, "")), self._control[match[0]]]
            end = match.end()
        return ids + self.encode(rendered[end:].replace(mark, ""))

    def encode_completion(self, text: str) -> list[int]:
        """Return the ids of an answer followed by the token that ends the turn."""
        return [*self.encode(text), self.terminator]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; control tokens add nothing, incomplete characters become U+FFFD."""
        return b"".join(self.token_bytes(index) for index in ids).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes a token adds to the text; none for control tokens and ids outside the vocabulary."""
        return self._bytes[token] if 0 <= token < len(self._bytes) else b""

    @cached_property
    def _bytes(self) -> list[bytes]:
        return [self._piece_bytes(index) for index in range(self.vocab_size)]

    @cached_property
    def _compiled(self) -> Any:
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def refuse(message: str) -> None:
            raise InvalidRequest(f"messages do not fit the model's chat template: {message}", param="messages")

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = refuse
        template = PLAIN_TEMPLATE if self.template is None else self.template
        return environment.from_string(template, globals={"tools": None, "documents": None})

    def _steers(self, index: int, token: AddedToken) -> bool:
        """Whether a text must not become this added token: it is special, the template writes it, or it ends a turn.

        Others, like a run of line breaks or a tag that a tokenizer keeps whole, are text.
        """
        written = self.template is not None and bool(token.content.strip()) and token.content in self.template
        return len(token.content) > 1 and (token.special or written or index in self.eos_ids)

    def _find_terminator(self, eos_ids: frozenset[int]) -> int:
        """The end token the template writes after an assistant's message; without a template the tokenizer's own."""
        if self.template is not None:
            for token in _TERMINATORS:
                if token in self.template and (index := self._tokenizer.token_to_id(token)) is not None:
                    return int(index)
        if not eos_ids:
            raise EngineError("the tokenizer names no end-of-sequence token: the model could never stop")
        return min(eos_ids)

    def _piece(self, token: int | None) -> str:
        return "" if token is None else str(self._tokenizer.id_to_token(token) or "")

    def _piece_bytes(self, token: int) -> bytes:
        piece = self._tokenizer.id_to_token(token)
        if piece is None or token in self._silent:
            return b""
        if not self._spaced:
            table = _byte_alphabet()
            return bytes(table[char] for char in piece) if all(char in table for char in piece) else piece.encode()
        if len(piece) == len("<0x00>") and piece.startswith("<0x") and piece.endswith(">"):
            return bytes([int(piece[3:5], 16)])
        return str(piece).replace(_SPACE, " ").encode()


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    if len(text) <= _LONG:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    else:
        ids = tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids  # unlike encode, drops the GIL
    return ids


def _without(tokenizer: Tokenizer, control: Mapping[str, int]) -> Tokenizer:
    """Return a tokenizer that knows no control tokens and is the same otherwise; the two share the vocabulary."""
    plain = Tokenizer(tokenizer.model)
    if tokenizer.normalizer is not None:
        plain.normalizer = tokenizer.normalizer
    if tokenizer.pre_tokenizer is not None:
        plain.pre_tokenizer = tokenizer.pre_tokenizer
    # A token that is not in the vocabulary itself would be added under another id.
    kept = tokenizer.get_added_tokens_decoder().items()
    plain.add_tokens(
        [token for i, token in kept if token.content not in control and plain.token_to_id(token.content) == i]
    )
    return plain


def _any_of(words: Collection[str]) -> str:
    """Return a regular expression for any of some words, the longest first. A tree: there may be thousands."""
    branches: dict[str, list[str]] = {}
    for word in words:
        if word:
            branches.setdefault(word[0], []).append(word[1:])
    parts = [re.escape(first) + (_any_of(rest) if any(rest) else "") for first, rest in branches.items()]
    return f"(?:{'|'.join(parts)})" + ("?" if "" in words else "")


def _texts(value: object) -> Iterator[str]:
    """Yield every text in a message, however deep."""
    match value:
        case str():
            yield value
        case list():
            for part in value:
                yield from _texts(part)
        case dict():
            yield from _texts(list(value.values()))


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Return a message with every text in it changed."""
    match value:
        case str():
            return change(value)
        case list():
            return [_mapped(part, change) for part in value]
        case dict():
            return {name: _mapped(part, change) for name, part in value.items()}
        case _:
            return value


def _broken(text: str, control: re.Pattern[str], mark: str) -> str:
    """Put the mark behind the first character of every control token in a text."""
    while control.search(text):  # again, because breaking one may leave another that overlapped it
        text = control.sub(lambda match: match[0][0] + mark + match[0][1:], text)
    return text


def _unused_character(texts: Iterable[str]) -> str:
    used = {character for text in texts for character in text}
    for code in range(_FIRST_MARK, _LAST_MARK + 1):
        if chr(code) not in used:
            return chr(code)
    raise InvalidRequest("messages hold every private-use character: send other text", param="messages")


def _text_of(message: JSON) -> str:
    """The text of a message whose content is a string, a list of text parts or absent."""
    content = message.get("content")
    if isinstance(content, list):
        if any(part.get("type") != "text" for part in content):
            raise InvalidRequest("messages: only content parts of type 'text' are supported", param="messages")
        return "".join(part["text"] for part in content)
    return content or ""


@cache
def _byte_alphabet() -> dict[str, int]:
    """Map GPT-2's printable stand-ins to bytes: printable Latin-1 stands for itself, the rest follow from U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


# -- GGUF -------------------------------------------------------------------------------------------------------------


def _from_gguf(file: GgufFile) -> Tokens:
    fields = {
        name.removeprefix("tokenizer."): value for name, value in file.fields.items() if name.startswith("tokenizer.")
    }
    kind = fields.get("ggml.model")
    if kind == "gpt2":
        tokenizer = _byte_level(fields)
    elif kind == "llama":
        tokenizer = _spaced(fields)
    else:
        raise EngineError(f"GGUF tokenizer model '{kind}' is not supported: use gpt2 or llama")
    pieces, kinds = fields["ggml.tokens"], fields["ggml.token_type"]
    tokenizer.add_special_tokens(
        [
            AddedToken(piece, special=True, normalized=False)
            for piece, k in zip(pieces, kinds, strict=True)
            if k == _CONTROL
        ]
    )
    tokenizer.add_tokens(
        [
            AddedToken(p, special=False, normalized=False)
            for p, k in zip(pieces, kinds, strict=True)
            if k == _USER_DEFINED
        ]
    )
    ends = {fields.get(f"ggml.{key}_token_id") for key in ("eos", "eot", "eom")}
    return Tokens(
        tokenizer,
        template=fields.get("chat_template"),
        eos_ids=frozenset(end for end in ends if end is not None),
        bos_id=fields.get("ggml.bos_token_id"),
        add_bos=bool(fields.get("ggml.add_bos_token", kind == "llama")),
        spaced=kind == "llama",
    )


def _byte_level(fields: Mapping[str, Any]) -> Tokenizer:
    """GPT-2's byte-level BPE with the text splitting that `tokenizer.ggml.pre` names."""
    splits: dict[str, list[pre_tokenizers.PreTokenizer]] = {
        "smollm": [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)],
        "gpt-2": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
        "default": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
        "llama-bpe": [
            pre_tokenizers.Split(
                Regex(
                    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
                    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
                ),
                "isolated",
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ],
    }
    pre = fields.get("ggml.pre", "default")
    if pre not in splits:
        raise EngineError(f"GGUF pre-tokenizer '{pre}' is not supported: use one of {', '.join(splits)}")
    vocabulary = {piece: index for index, piece in enumerate(fields["ggml.tokens"])}
    merges = [tuple(merge.split(" ", 1)) for merge in fields["ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits[pre])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _spaced(fields: Mapping[str, Any]) -> Tokenizer:
    """SentencePiece BPE (Llama 2, Gemma): U+2581 for spaces, unknown characters as bytes, merges ranked by score."""
    pieces, scores = fields["ggml.tokens"], fields["ggml.scores"]
    kinds = fields["ggml.token_type"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    mergeable = {piece: index for piece, index in vocabulary.items() if kinds[index] not in (_CONTROL, _BYTE)}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=_merges(mergeable, scores),
            unk_token=pieces[fields.get("ggml.unknown_token_id", 0)],
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    steps: list[normalizers.Normalizer] = [normalizers.Replace(" ", _SPACE)]
    if fields.get("ggml.add_space_prefix", True):
        steps.insert(0, normalizers.Prepend(_SPACE))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.decoder = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def _merges(vocabulary: Mapping[str, int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """Every way to join two pieces into a third, best score of the result first; ties in order of the parts' ids."""
    found = []
    for piece, index in vocabulary.items():
        for cut in range(1, len(piece)):
            left, right = vocabulary.get(piece[:cut]), vocabulary.get(piece[cut:])
            if left is not None and right is not None:
                found.append((-scores[index], left, right, piece, cut))
    found.sort()
    return [(piece[:cut], piece[cut:]) for _, _, _, piece, cut in found]


# -- Hugging Face folder ----------------------------------------------------------------------------------------------


def _from_folder(folder: Path) -> Tokens:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise EngineError(f"folder {folder} lacks tokenizer.json", param="path")
    tokenizer = Tokenizer.from_file(str(path))
    config = _read_json(folder / "tokenizer_config.json")
    generation = _read_json(folder / "generation_config.json")
    template_file = folder / "chat_template.jinja"
    template = template_file.read_text() if template_file.is_file() else config.get("chat_template")

    def token_id(value: Any) -> int | None:
        piece = value.get("content") if isinstance(value, dict) else value
        return tokenizer.token_to_id(piece) if piece else None

    declared = generation.get("eos_token_id", _read_json(folder / "config.json").get("eos_token_id"))
    ends = {token_id(config.get("eos_token")), *(declared if isinstance(declared, list) else [declared])}
    bos_id = token_id(config.get("bos_token"))
    probe = tokenizer.encode("a").ids
    return Tokens(
        tokenizer,
        template=template,
        eos_ids=frozenset(end for end in ends if end is not None),
        bos_id=bos_id,
        add_bos=bos_id is not None and probe[:1] == [bos_id],
        spaced="<0x00>" in tokenizer.get_vocab(),
    )


def _read_json(path: Path) -> JSON:
    result: JSON = json.loads(path.read_text()) if path.is_file() else {}
    return result
