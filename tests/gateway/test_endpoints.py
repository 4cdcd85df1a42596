"""Which endpoint of a model is asked: load, weights, affinity."""

import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from bessemer.core.conversation import Conversation, Message
from bessemer.core.errors import ConfigError, ProviderError
from bessemer.core.models import ConfiguredAt, Model
from bessemer.gateway.breakers import FAILURES
from bessemer.gateway.endpoints import Endpoints
from bessemer.gateway.providers.openai import OpenAISettings
from bessemer.registry.upstreams import UpstreamEndpoint


def model(*weights: float, **more: Any) -> Model:
    endpoints = tuple(
        UpstreamEndpoint(f"http://127.0.0.1:{9000 + number}/v1", weight=weight) for number, weight in enumerate(weights)
    )
    return Model(name="m", provider="openai", settings=OpenAISettings(endpoints=endpoints, **more))


def asked(text: str = "hi", user: str | None = None) -> tuple[Any, Any]:
    conversation = Conversation(model="m", messages=(Message("user", text),), user=user)
    principal = SimpleNamespace(project_id="default")
    return SimpleNamespace(asked=conversation, principal=principal), SimpleNamespace(messages=conversation.messages)


def test_a_slow_server_gets_what_it_can_do() -> None:
    endpoints, one = Endpoints(draws=random.Random(1)), model(1, 1)
    seconds = {"m/1": 0.1, "m/2": 0.4}
    met: Counter[str] = Counter()
    under_way: list[tuple[float, Any]] = []
    for number in range(4000):
        now = number * 0.01
        while under_way and under_way[0][0] <= now:
            ends, chosen = under_way.pop(0)
            endpoints.end(chosen, None, ends - seconds[chosen.name], ends)
        chosen = endpoints.choose(one, *asked())
        met[chosen.name] += 1
        endpoints.begin(chosen)
        under_way.append((now + seconds[chosen.name], chosen))
        under_way.sort(key=lambda each: each[0])
    assert met["m/2"] < met["m/1"], met
    assert met["m/2"] > 0, "and none is left idle for ever"


def test_a_model_without_endpoints_has_one_by_its_own_name() -> None:
    plain = Model(name="m", provider="openai", settings=OpenAISettings(base_url="http://127.0.0.1:9/v1"))
    [only] = Endpoints().of(plain)
    assert (only.name, only.model) == ("m", plain)


def test_one_that_fails_is_asked_when_all_do() -> None:
    now = 100.0
    endpoints, one = Endpoints(lambda: now), model(1, 1)
    first, second = endpoints.of(one)
    for _ in range(FAILURES):
        endpoints.begin(first)
        endpoints.end(first, ProviderError("down"), now, None)
    assert {endpoints.choose(one, *asked()).name for _ in range(50)} == {"m/2"}
    assert endpoints.choose(one, *asked(), [second]) is first, "it was not tried yet"
    assert endpoints.ready(one)


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 2, 4)])
def test_users_are_spread_by_weight_and_move_only_with_their_server(weights: tuple[float, ...]) -> None:
    one = model(*weights, affinity="user")
    fewer = msgspec.structs.replace(
        one, settings=msgspec.structs.replace(one.settings, endpoints=one.settings_as(OpenAISettings).endpoints[:2])
    )
    before = {str(user): Endpoints().choose(one, *asked(user=str(user))).name for user in range(2000)}
    after = {user: Endpoints().choose(fewer, *asked(user=user)).name for user in before}
    shares = Counter(before.values())
    for number, weight in enumerate(weights, 1):
        assert shares[f"m/{number}"] / 2000 == pytest.approx(weight / sum(weights), abs=0.05)
    assert all(after[user] == server for user, server in before.items() if server != "m/3")


def test_a_crowded_server_passes_its_users_on() -> None:
    endpoints, one = Endpoints(), model(1, 1, 1, affinity="user")
    for _ in range(100):
        endpoints.begin(endpoints.choose(one, *asked(user="everybody")))
    loads = [each.running for each in endpoints.of(one)]
    assert max(loads) <= 1.25 * 101 / 3 + 1, loads


def test_a_changed_configuration_is_seen() -> None:
    endpoints = Endpoints()
    assert len(endpoints.of(model(1, 1))) == 2
    assert len(endpoints.of(model(1, 1, 1))) == 3


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "base_url"),
        ({"base_url": "http://a/v1", "endpoints": (UpstreamEndpoint("http://b/v1"),)}, "endpoints"),
        ({"endpoints": (UpstreamEndpoint("nowhere"),)}, "base_url"),
        ({"endpoints": (UpstreamEndpoint("http://b/v1", weight=0),)}, "endpoints"),
        ({"endpoints": (UpstreamEndpoint("http://b/v1", name="a/b"),)}, "endpoints"),
        ({"endpoints": (UpstreamEndpoint("http://b/v1", name="2"), UpstreamEndpoint("http://c/v1"))}, "endpoints"),
        ({"base_url": "http://a/v1", "retries": 11}, "retries"),
        ({"base_url": "http://a/v1", "hedge_after": 0}, "hedge_after"),
    ],
)
def test_what_cannot_be_is_refused_by_name(given: dict[str, Any], named: str, tmp_path: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        OpenAISettings(**given).completed(ConfiguredAt("models.m", tmp_path))
    assert raised.value.param == named


def test_another_server_of_the_same_model_makes_no_new_version(tmp_path: Any) -> None:
    at = ConfiguredAt("models.m", tmp_path)
    alone = OpenAISettings(base_url="http://127.0.0.1:9000/v1").completed(at)
    many = model(1, 1).settings_as(OpenAISettings).completed(at)
    assert alone.identity("m") == many.identity("m")
    assert (alone.retries, many.retries) == (0, 1)
