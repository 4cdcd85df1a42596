"""Tools for a model that was taught none: told in its instructions, called under a grammar, read back from its text.

A call is written as Hermes models write it, `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, and a result as
`<tool_response>…</tool_response>` in a user's turn, so that any chat template can carry both. Where a call is demanded
the grammar leaves nothing else: the arguments satisfy the tool's schema, however small the model is.
"""

import json
import re
import uuid
from collections.abc import Sequence

from bessemer.core.conversation import Constraint, JsonSchema, Lark, Message, Tool, ToolChoice
from bessemer.core.errors import InvalidRequest
from bessemer.core.reply import ToolCallPiece
from bessemer.core.types import JSON

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_INSTRUCTIONS = (
    "You can call functions. Their signatures, as JSON schemas:\n{tools}\nTo call one, answer with nothing but\n"
    f'{_OPEN}{{{{"name": "its name", "arguments": {{{{…}}}}}}}}{_CLOSE}\n{{now}}'
)
_NOW = {
    "auto": "Call one where it helps; otherwise answer in words.",
    "required": "Call one now.",
    "named": "Call {name} now.",
}
_CALL = re.compile(
    r'\s*\{\s*"name"\s*:\s*(?P<name>"(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(?P<arguments>.*)', re.DOTALL
)


def offered(tools: Sequence[Tool], choice: ToolChoice) -> tuple[Tool, ...]:
    """Return the tools that may be called now. Raises InvalidRequest for one that is no function or is not there."""
    if choice.mode == "none":
        return ()
    for index, tool in enumerate(tools):
        if tool.sent is not None and tool.sent.get("type") != "function":
            raise InvalidRequest(
                f"tools[{index}]: this model calls functions alone; leave the tool out, or ask another model.",
                param=f"tools[{index}]",
            )
    if choice.name is None:
        return tuple(tools)
    named = tuple(tool for tool in tools if tool.name == choice.name)
    if not named:
        raise InvalidRequest(f"tool_choice names {choice.name!r}, which is not among the tools.", param="tool_choice")
    return named


def told(messages: Sequence[Message], tools: Sequence[Tool], choice: ToolChoice) -> tuple[Message, ...]:
    """Return the messages with calls and results as text, and the tools in the instructions before them."""
    spoken = [_spoken(message) for message in messages]
    if not tools:
        return tuple(spoken)
    signatures = "\n".join(json.dumps(tool.plain()["function"], ensure_ascii=False) for tool in tools)
    now = _NOW["named" if choice.name else choice.mode].format(name=choice.name)
    text = _INSTRUCTIONS.format(tools=signatures, now=now)
    if spoken and spoken[0].role in {"system", "developer"}:
        return (Message(role=spoken[0].role, content=f"{spoken[0].text}\n\n{text}"), *spoken[1:])
    return (Message(role="system", content=text), *spoken)


def _spoken(message: Message) -> Message:
    if message.role in {"tool", "function"}:
        return Message(role="user", content=f"<tool_response>{message.text}</tool_response>")
    if not message.tool_calls:
        return message
    calls = "".join(
        f'{_OPEN}{{"name": {json.dumps(call.name)}, "arguments": {call.arguments or "{}"}}}{_CLOSE}'
        for call in message.tool_calls
    )
    return Message(role=message.role, content=message.text + calls)


def bound(tools: Sequence[Tool], choice: ToolChoice, constraint: Constraint | None) -> Constraint | None:
    """Return what binds the answer: a call where one is demanded, else a call or words, or the client's own rules."""
    if not tools:
        return constraint
    if choice.mode == "required":
        return JsonSchema(schema=_any_call(tools))
    if constraint is not None:
        return constraint
    return Lark(
        grammar=f'start: WORDS | "{_OPEN}" call "{_CLOSE}"\nWORDS: /([^<](.|\\n)*)?/\n'
        f"call: %json {json.dumps(_any_call(tools))}"
    )


def _any_call(tools: Sequence[Tool]) -> JSON:
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool.name},
                "arguments": tool.parameters or {"type": "object", "properties": {}, "additionalProperties": False},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    return calls[0] if len(calls) == 1 else {"anyOf": calls}


def called(text: str) -> ToolCallPiece | None:
    """Return the call that an answer is; None for words. Of a call that was cut short, as much as there is."""
    found = _CALL.match(text.removeprefix(_OPEN))
    if found is None:
        return None
    arguments = found["arguments"].strip().removesuffix(_CLOSE).rstrip()
    try:  # the rest closes the call's own object
        whole = json.loads(f'{{"arguments": {arguments}')
        arguments = json.dumps(whole["arguments"], ensure_ascii=False, separators=(",", ":"))
    except ValueError:
        pass
    return ToolCallPiece(
        index=0, id=f"call_{uuid.uuid4().hex[:24]}", name=json.loads(found["name"]), arguments=arguments
    )
