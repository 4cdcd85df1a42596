"""From structured input to what a model sees: chat messages through a prompt, answer rules of version and prompt."""

from bessemer.core.conversation import AnswerRules, Choices, Constraint, JsonSchema, Lark, Message
from bessemer.core.errors import InvalidRequest
from bessemer.core.models import ModelVersion, Prompt
from bessemer.core.template import placeholders, render_grammar, render_messages
from bessemer.core.types import JSON


def messages_of(prompt: Prompt, input: JSON) -> tuple[Message, ...]:
    """Return the messages of a prompt filled with structured input. Raises InvalidRequest for what the input lacks."""
    return tuple(Message(role=said["role"], content=said["content"]) for said in render_messages(prompt, input))


def constraint_of(rules: ModelVersion | Prompt, input: JSON | None) -> Constraint | None:
    """Return the constraint that a version or prompt puts on its answers: choices, schema or grammar, else None.

    Raises InvalidRequest when a grammar template needs structured input and none was sent.
    """
    if rules.choices:
        return Choices(labels=rules.choices)
    if rules.response_schema is not None:
        return JsonSchema(schema=rules.response_schema)
    if rules.grammar is not None:
        if input is None and placeholders(rules.grammar):
            raise InvalidRequest(
                "The answer's grammar is filled with structured input; send it as `bessemer.input`.",
                param="bessemer.input",
            )
        return Lark(grammar=render_grammar(rules.grammar, input or {}))
    return None


def answer_rules(version: ModelVersion, prompt: Prompt | None, input: JSON | None, asked: AnswerRules) -> AnswerRules:
    """Merge the answer rules of a version, of the prompt that was rendered, and of the client.

    The version's own constraint wins over its prompt's. A client's is taken when there is no other; a different one is
    refused, because the version was measured with its own. Raises InvalidRequest.
    """
    own = constraint_of(version, input)
    if own is None and prompt is not None:
        own = constraint_of(prompt, input)
    requested = asked.constraint
    if own is not None and requested is not None and requested != own:
        raise InvalidRequest(
            f"The version {version.id!r} constrains its answers itself; leave out `response_format` and "
            "`structured_outputs`, or ask for a version without rules.",
            param="structured_outputs" if isinstance(requested, Choices) else "response_format",
        )
    limit = prompt.max_tokens if prompt is not None and prompt.max_tokens is not None else version.max_tokens
    return AnswerRules(
        constraint=_biased(own, version) or requested,
        requested=asked.requested,
        field_threshold=version.field_threshold,
        max_tokens=limit,
        max_tokens_declared=limit != AnswerRules().max_tokens,
    )


def _biased(own: Constraint | None, version: ModelVersion) -> Constraint | None:
    if isinstance(own, Choices) and version.choices and version.choice_bias:
        return Choices(labels=own.labels, bias=version.choice_bias)
    return own
