"""From the name a client wrote to a route, and from its targets to calls: names are looked up in memory.

A name that is not there may be new, so the database is asked, off the event loop: it may take long to answer.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from bessemer.core.access import Action, Principal, Resource, ResourceKind
from bessemer.core.conversation import HINTS, AnswerRules, Choices, Conversation, Message, Sampling
from bessemer.core.errors import InvalidRequest, NotFound
from bessemer.core.models import Capability
from bessemer.core.routes import Route, Target
from bessemer.gateway.providers.base import ProviderCall
from bessemer.gateway.render import answer_rules, messages_of
from bessemer.identity.policy import Policy
from bessemer.registry.catalog import Catalog, Resolved

T = TypeVar("T")
NOT_UNDERSTOOD = "unsupported_by_model"
"""Code of what one model cannot do and another may."""


async def resolve(catalog: Catalog, policy: Policy, name: str, principal: Principal) -> Route:
    """Return the route of that name, or a one-step route of a model, alias or version.

    Raises NotFound, the same one for what is not there and what the principal may not ask for, and Conflict.
    """
    route = Resource(kind=ResourceKind.ROUTE, id=name, project_id=principal.project_id)
    if not policy.decide(principal, Action.ROUTE_INVOKE, route).allowed:
        raise _not_for(name)
    known = catalog.has_route(name) or catalog.has_target(name)
    try:
        return await _looked_up(catalog.route_or_target, name, known=known)
    except NotFound:
        if principal.models is None:
            raise
        raise _not_for(name) from None  # the catalog's own error names what else there is


def _not_for(name: str) -> NotFound:
    message = f"There is no model {name!r} that this key may ask for; GET /v1/models lists those that it may."
    return NotFound(message, param="model", code="model_not_found")


async def provider_call(
    catalog: Catalog, target: Target, asked: Conversation, *, stream: bool, need_logprobs: bool
) -> tuple[ProviderCall, str | None]:
    """Make the call for one target: its version, the messages it sees, its answer rules; and the prompt's name.

    Raises NotFound, InvalidRequest.
    """
    resolved = await _looked_up(catalog.resolve, target.model, known=catalog.has_target(target.model))
    name = target.prompt or resolved.version.prompt
    prompt = catalog.prompt(name) if name is not None and asked.input is not None else None
    if prompt is not None and asked.input is not None:
        messages = messages_of(prompt, asked.input)
    elif asked.messages or resolved.model.can(Capability.INPUT):
        messages = asked.messages
    else:
        raise InvalidRequest(
            f"{resolved.version.id!r} has no prompt that renders structured input; send messages too, or give the "
            "target a prompt.",
            param="messages",
        )
    _check_understood(resolved, asked, messages)
    rules = answer_rules(resolved.version, prompt, asked.input, asked.rules)
    call = ProviderCall(
        model=resolved.model,
        version=resolved.version,
        messages=messages,
        tools=asked.tools,
        tool_choice=asked.tool_choice,
        sampling=_decoding(asked.sampling, resolved, rules),
        rules=rules,
        embed=asked.embed,
        input=asked.input,
        tags=asked.tags,
        dialect=asked.dialect,
        extra=asked.extra,
        spelling=asked.spelling,
        stream=stream,
        need_logprobs=need_logprobs and resolved.model.can(Capability.LOGPROBS),
    )
    return call, None if prompt is None else prompt.name


def _check_understood(resolved: Resolved, asked: Conversation, messages: Sequence[Message]) -> None:
    """Refuse by name what the provider cannot do or does not know: nothing that was asked for is left out silently.

    Another target of the route may know it: the code says so.
    """
    model = resolved.model
    if not model.can(Capability.EMBED if asked.embed else Capability.COMPLETE):
        does = "makes no vectors of texts" if asked.embed else "does not answer conversations"
        raise InvalidRequest(f"{model.name!r} {does}; ask another model.", param="model", code=NOT_UNDERSTOOD)
    calls = any(message.tool_calls or message.role in {"tool", "function"} for message in messages)
    if (asked.tools or calls) and not model.can(Capability.TOOLS):
        message = f"{model.name!r} knows no tools; leave them out, or ask another model."
        raise InvalidRequest(message, param="tools", code=NOT_UNDERSTOOD)
    if asked.dialect in model.settings.dialects:
        return
    if asked.extra:
        names = ", ".join(sorted(asked.extra))
        message = f"{model.name!r} does not know {names}; leave it out, or ask another model."
        raise InvalidRequest(message, param=next(iter(asked.extra)), code=NOT_UNDERSTOOD)
    if any(part.text is None for message in messages for part in message.parts):
        message = f"{model.name!r} reads text alone; send no other parts, or ask another model."
        raise InvalidRequest(message, param="messages", code=NOT_UNDERSTOOD)
    if unknown := sorted({name for message in messages for name in message.extra} - HINTS):
        message = f"{model.name!r} does not know {', '.join(unknown)} of a message; leave it out, or ask another model."
        raise InvalidRequest(message, param="messages", code=NOT_UNDERSTOOD)


def _decoding(sampling: Sampling, resolved: Resolved, rules: AnswerRules) -> Sampling:
    """Return the sampling with the temperature that the client leaves to the version, whoever asks."""
    temperature = sampling.temperature
    if temperature is None:
        temperature = resolved.version.temperature
    if temperature is None:
        settings = resolved.model.settings
        temperature = settings.choice_temperature if isinstance(rules.constraint, Choices) else settings.temperature
    return msgspec.structs.replace(sampling, temperature=temperature)


async def _looked_up(look_up: Callable[[str], T], name: str, *, known: bool) -> T:
    return look_up(name) if known else await asyncio.to_thread(look_up, name)
