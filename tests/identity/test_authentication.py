"""Keys that are not valid are counted by address; who has a valid one never notices."""

from collections.abc import Iterator

import pytest
from tests.asking import ask, key_of
from tests.live import Server, Upstream, start_server, stop_server

from bessemer.core.access import Role
from bessemer.core.errors import RateLimited, Unauthorized
from bessemer.identity.authentication import Authenticator
from bessemer.identity.keys import Keys
from bessemer.store.database import Database
from bessemer.store.local_counters import LocalCounters


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def keys(sqlite_database: Database) -> Keys:
    return Keys(sqlite_database)


async def refused(door: Authenticator, address: str, key: str = "bsm-guess") -> type[Exception]:
    try:
        await door(f"Bearer {key}", address)
    except (Unauthorized, RateLimited) as error:
        assert (error.retry_after is not None) == isinstance(error, RateLimited)
        return type(error)
    raise AssertionError("a key that was never made is valid")


async def test_guessing_is_stopped_for_the_address_alone_and_for_a_minute(keys: Keys) -> None:
    clock = Clock()
    door = Authenticator(keys, LocalCounters(clock), 3)
    created = keys.create("app", Role.APP)
    for number in range(3):
        clock.now += 10
        assert await refused(door, "10.0.0.1", f"bsm-{number}") is Unauthorized
    assert await refused(door, "10.0.0.1") is RateLimited
    assert await refused(door, "10.0.0.2") is Unauthorized
    for address in ("10.0.0.1", "10.0.0.2", "127.0.0.1"):  # a known key is never held up, not even beside the guesser
        assert (await door(f"Bearer {created.plaintext}", address)).name == "app"
    clock.now += 41  # the first of the three has left the window; being refused meanwhile cost nothing
    assert await refused(door, "10.0.0.1") is Unauthorized
    assert await refused(door, "10.0.0.1") is RateLimited


async def test_a_waiting_time_is_told_that_is_enough(keys: Keys) -> None:
    clock = Clock()
    door = Authenticator(keys, LocalCounters(clock), 1)
    await refused(door, "10.0.0.1")
    with pytest.raises(RateLimited) as told:
        await door("Bearer bsm-guess", "10.0.0.1")
    assert told.value.retry_after == 60
    clock.now += told.value.retry_after
    assert await refused(door, "10.0.0.1") is Unauthorized


async def test_an_ipv6_network_is_one_address(keys: Keys) -> None:
    door = Authenticator(keys, LocalCounters(Clock()), 1)
    assert await refused(door, "2001:db8::1") is Unauthorized
    assert await refused(door, "2001:db8::ffff:2") is RateLimited
    assert await refused(door, "2001:db8:0:1::1") is Unauthorized
    assert await refused(door, "::ffff:10.0.0.1") is Unauthorized
    assert await refused(door, "10.0.0.1") is RateLimited


async def test_a_key_made_elsewhere_counts_as_no_guess(sqlite_database: Database, keys: Keys) -> None:
    door = Authenticator(keys, LocalCounters(Clock()), 1)
    created = Keys(sqlite_database).create("new", Role.APP)
    assert (await door(f"Bearer {created.plaintext}", "10.0.0.1")).name == "new"
    assert await refused(door, "10.0.0.1") is Unauthorized


async def test_addresses_are_forgotten_in_the_end(keys: Keys) -> None:
    door = Authenticator(keys, LocalCounters(Clock(), most_keys=2), 1)
    for address in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
        assert await refused(door, address) is Unauthorized
    assert await refused(door, "10.0.0.1") is Unauthorized
    assert await refused(door, "10.0.0.3") is RateLimited


@pytest.fixture
def strict(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("strict")
    folder.joinpath("settings.toml").write_text("invalid_keys_per_minute = 2\n")
    running = start_server(folder, upstream, "--no-worker", "--settings", str(folder / "settings.toml"))
    yield running
    stop_server(running)


def test_the_server_says_when_to_try_again(strict: Server) -> None:
    member = key_of(strict, "member")
    for _ in range(2):
        assert ask(strict, "GET", "/v1/models", "bsm-guess")[0] == 401
    status, body, headers = ask(strict, "GET", "/v1/models", "bsm-guess")
    assert (status, body["error"]["code"]) == (429, "too_many_invalid_keys")
    assert 1 <= int(headers["retry-after"]) <= 60
    for key in (strict.key, member):
        assert ask(strict, "GET", "/v1/models", key)[0] == 200
    assert ask(strict, "GET", "/v1/models", None)[0] == 401  # without a key nothing was guessed
