"""The catalog: names resolve, changes are seen, what was changed can be undone."""

import math
import threading
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.registry.test_config import GOOD
from tests.store.forwarder import Forwarder

from bessemer.core.content import content_hash
from bessemer.core.errors import ConfigError, Conflict, InvalidRequest, NotFound
from bessemer.core.models import Lineage, ModelVersion
from bessemer.core.reply import Usage
from bessemer.core.routes import Calibration, ConfidenceScore, Route, Step, Target
from bessemer.gateway.providers import SETTINGS
from bessemer.registry.catalog import Catalog
from bessemer.registry.config import Config, parse_config
from bessemer.registry.versions import make_version
from bessemer.store import revisions
from bessemer.store.database import Database
from bessemer.store.polled_notices import PolledNotices

CONFIG = parse_config(GOOD, Path("/data"), SETTINGS)


@pytest.fixture
def catalog(database: Database) -> Catalog:
    return Catalog(CONFIG, database)


def tuned(model: str = "small", adapter: str = "a") -> ModelVersion:
    return make_version(
        model, prompt="match", adapter_sha256=adapter * 64, choices=("no", "yes"), lineage=Lineage(base="small")
    )


def a_route(model: str, name: str = "matching") -> Route:
    return Route(name=name, steps=(Step(targets=(Target(model=model),)),))


def test_base_versions_are_there_from_the_start(catalog: Catalog, database: Database) -> None:
    base = catalog.resolve("small").version
    assert base == catalog.version(base.id)
    assert catalog.resolve(base.id) == catalog.resolve("small")
    assert len(Catalog(CONFIG, database).versions("small")) == 1


def test_a_version_is_registered_once(catalog: Catalog) -> None:
    first = catalog.register(tuned())
    again = catalog.register(msgspec.structs.replace(tuned(), id="new", created_at=1.0))
    assert first == again
    assert first.id.startswith("small@")
    assert len(catalog.versions("small")) == 2
    assert catalog.register(tuned(adapter="b")).id != first.id


def test_a_version_from_before_there_were_temperatures_keeps_its_name() -> None:
    old = make_version("small", created_at=0.0, max_tokens=7)
    assert old.id == "small@2adb55ff06b8"
    assert make_version("small", created_at=0.0, max_tokens=7, temperature=0.0).id != old.id


def test_an_alias_moves_and_goes_back(catalog: Catalog) -> None:
    one, two, three = (catalog.register(tuned(adapter=letter)) for letter in "abc")
    with pytest.raises(NotFound, match="small:champion"):
        catalog.resolve("small:champion")
    for version in (one, two, three):
        catalog.move_alias("small", "champion", version.id, "better")
        assert catalog.resolve("small:champion").version == version
    moved = catalog.rollback("small", "champion")
    assert moved is not None
    assert moved.version == two.id
    assert catalog.resolve("small:champion").version == two
    assert catalog.rollback("small", "champion").version == one.id  # type: ignore[union-attr]
    assert catalog.rollback("small", "champion") is None
    with pytest.raises(Conflict):
        catalog.rollback("small", "champion")
    assert [move.reason for move in catalog.alias_history("small", "champion")][-3:] == ["better"] * 3
    assert catalog.aliases() == []


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(st.one_of(st.none(), st.sampled_from("abc")), max_size=12), salt=st.uuids())
def test_undoing_follows_a_stack(sqlite_database: Database, moves: list[str | None], salt: object) -> None:
    """A model of the alias: moves push, rollbacks pop."""
    catalog = Catalog(CONFIG, sqlite_database)
    alias = f"a{salt}"
    ids = {letter: catalog.register(tuned(adapter=letter)).id for letter in "abc"}
    stack: list[str] = []
    for move in moves:
        if move is not None:
            catalog.move_alias("small", alias, ids[move])
            stack.append(ids[move])
        elif stack:
            stack.pop()
            moved = catalog.rollback("small", alias)
            assert (moved.version if moved else None) == (stack[-1] if stack else None)
        else:
            with pytest.raises(Conflict):
                catalog.rollback("small", alias)
    assert [a.version for a in catalog.aliases() if a.name == alias] == stack[-1:]


def test_an_alias_points_at_its_own_model_only(catalog: Catalog) -> None:
    large = catalog.resolve("large").version
    with pytest.raises(NotFound, match="no version"):
        catalog.move_alias("small", "champion", large.id)
    with pytest.raises(InvalidRequest, match="alias"):
        catalog.move_alias("small", "a:b", large.id)


def test_a_tuned_model_may_have_a_name_of_its_own(catalog: Catalog) -> None:
    version = catalog.register(tuned("matcher"))
    grandchild = catalog.register(make_version("matcher-2", adapter_sha256="c" * 64, lineage=Lineage(base=version.id)))
    assert catalog.resolve("matcher").model.name == "small"
    assert catalog.resolve(grandchild.id).model.price == "hour"
    catalog.move_alias("matcher", "champion", version.id)
    catalog.register(tuned("matcher", "d"))
    assert catalog.resolve("matcher").version == version
    with pytest.raises(InvalidRequest, match="lineage"):
        catalog.register(make_version("orphan"))


def test_a_route_in_the_database_wins_until_it_is_rolled_back(catalog: Catalog) -> None:
    from_file = catalog.route("matching")
    before = catalog.config_sha256
    catalog.put_route(a_route("large"), "cheaper")
    catalog.put_route(a_route("small"), "cheaper still")
    assert catalog.route("matching") == a_route("small")
    assert catalog.config_sha256 != before
    assert catalog.rollback_route("matching") == a_route("large")
    assert catalog.rollback_route("matching") == from_file
    assert catalog.config_sha256 == before
    with pytest.raises(Conflict):
        catalog.rollback_route("matching")
    catalog.put_route(a_route("large", "fresh"))
    assert catalog.rollback_route("fresh") is None
    assert not catalog.has_route("fresh")


def test_a_route_that_leads_nowhere_is_refused(catalog: Catalog) -> None:
    for route, error in [
        (a_route("nobody"), NotFound),
        (a_route("small", "large"), Conflict),
        (Route(name="empty", steps=()), InvalidRequest),
        (a_route("small", "a b"), InvalidRequest),
        (Route(name="x", steps=(Step(targets=(Target(model="small", prompt="none"),)),)), NotFound),
        (Route(name="x", steps=(Step(targets=(Target(model="small", weight=0.0),)),)), InvalidRequest),
    ]:
        with pytest.raises(error):
            catalog.put_route(route)


def cascade(calibration: Calibration | None, *, last: float | None = None) -> Route:
    small = Step(targets=(Target(model="small"),), threshold=0.5, calibration=calibration)
    return Route(name="x", steps=(small, Step(targets=(Target(model="large"),), threshold=last)))


def a_calibration(version: str, x: tuple[float, ...] = (0.0,), y: tuple[float, ...] = (0.0,)) -> Calibration:
    return Calibration(version=version, score=ConfidenceScore.CHOICE_MARGIN, dataset_sha256="0" * 64, x=x, y=y)


def test_a_cascade_that_could_not_answer_is_refused(catalog: Catalog) -> None:
    small = catalog.resolve("small").version.id
    catalog.put_route(cascade(a_calibration(small)))
    for route, error in [
        (cascade(None), InvalidRequest),
        (cascade(a_calibration(small), last=0.5), InvalidRequest),
        (cascade(a_calibration(small, x=(0.0, 1.0))), InvalidRequest),
        (cascade(a_calibration(small, x=(1.0, 0.0), y=(0.0, 1.0))), InvalidRequest),
        (cascade(a_calibration(small, x=(math.nan,))), InvalidRequest),
        (cascade(a_calibration("small@000000000000")), NotFound),
    ]:
        with pytest.raises(error):
            catalog.put_route(route)


def with_prompt(text: str) -> Config:
    assert "Answer yes or no." in GOOD
    return parse_config(GOOD.replace("Answer yes or no.", text), Path("/data"), SETTINGS)


def test_a_version_answers_with_the_prompt_it_was_made_with_or_not_at_all(database: Database) -> None:
    before = Catalog(CONFIG, database)
    prompt_sha256 = content_hash(before.prompt("match"))
    made = before.register(
        make_version("offers", prompt="match", prompt_sha256=prompt_sha256, lineage=Lineage(base="small"))
    )
    after = Catalog(with_prompt("Answer no or yes."), database)
    with pytest.raises(Conflict, match=r"\[prompts.match\]"):
        after.resolve(made.id)
    assert after.resolve("small").version.id != before.resolve("small").version.id
    before.move_alias("offers", "champion", made.id)
    with pytest.raises(ConfigError, match="offers:champion"):
        Catalog(with_prompt("Answer no or yes."), database)


def test_an_adapter_does_not_run_on_other_weights(database: Database) -> None:
    before = Catalog(CONFIG, database)
    lineage = Lineage(base="small", weights=before.weights("small"))
    made = before.register(make_version("offers", adapter_sha256="a" * 64, lineage=lineage))
    after = Catalog(parse_config(GOOD.replace("small.gguf", "other.gguf"), Path("/data"), SETTINGS), database)
    with pytest.raises(Conflict, match=r"\[models.small\]"):
        after.resolve(made.id)


def test_a_model_that_left_the_configuration_stops_nothing_but_its_own(database: Database) -> None:
    before = Catalog(CONFIG, database)
    lineage = Lineage(base="small", method="sft", weights=before.weights("small"))
    made = before.register(make_version("offers", adapter_sha256="a" * 64, lineage=lineage))
    before.move_alias("offers", "champion", made.id)
    other = GOOD.replace("[models.small]", "[models.other]").replace("small", "other")
    after = Catalog(parse_config(other, Path("/data"), SETTINGS), database)
    assert after.openai_name(made, "acme") is None
    assert made.id in {version.id for version in after.versions()}
    assert after.resolve("other").model.name == "other"
    with pytest.raises(InvalidRequest, match="neither its model nor the base"):
        after.resolve("offers:champion")


def test_openais_name_of_a_version_is_taken_as_a_whole(catalog: Catalog) -> None:
    lineage = Lineage(base="small", method="sft")
    made = catalog.register(make_version("offers", adapter_sha256="a" * 64, lineage=lineage))
    digits = made.id.rpartition("@")[2]
    name = f"ft:small:acme:offers:{digits}"
    assert catalog.openai_name(made, "acme") == name
    assert catalog.version(name) == made
    assert catalog.route_or_target(name).name == made.id
    for wrong in (f"ft:small:acme:other:{digits}", f"ft:{'x' * 4000}:{digits}", f"ft:large:acme:offers:{digits}"):
        with pytest.raises(NotFound):
            catalog.resolve(wrong)


def test_a_tuned_version_runs_on_its_base_whatever_its_name(catalog: Catalog) -> None:
    made = catalog.register(make_version("large", adapter_sha256="a" * 64, lineage=Lineage(base="small")))
    assert catalog.resolve(made.id).model.name == "small"
    assert catalog.taken("large", "small")
    assert catalog.taken("matching", "small")
    assert catalog.taken("small", "small") is None
    assert catalog.taken("offers", "small") is None


def test_a_version_tuned_from_a_tuned_one_runs_on_the_base_of_both(catalog: Catalog) -> None:
    made = catalog.register(make_version("offers", adapter_sha256="a" * 64, lineage=Lineage(base="small")))
    for adapter in "bc":  # each from the one before, under the same name: supervised, then reinforced, then again
        lineage = Lineage(base=made.id, method="grpo")
        made = catalog.register(make_version("offers", adapter_sha256=adapter * 64, lineage=lineage))
        assert catalog.resolve(made.id).model.name == "small"
        assert catalog.openai_name(made, "acme") == f"ft:small:acme:offers:{made.id.rpartition('@')[2]}"


def test_a_name_may_be_a_route_or_a_target(catalog: Catalog) -> None:
    assert catalog.route_or_target("matching") == catalog.route("matching")
    version = catalog.resolve("small").version
    assert catalog.route_or_target(version.id).steps[0].targets == (Target(model=version.id),)
    with pytest.raises(NotFound, match=r"Known: large, small\. Known routes: cascade, matching") as caught:
        catalog.route_or_target("gpt-4")
    assert caught.value.error_code == "model_not_found"


def test_cost_is_known_or_none(catalog: Catalog) -> None:
    assert catalog.cost("small", Usage(input_tokens=None, output_tokens=None), 10.0) == pytest.approx(0.001)
    assert catalog.cost("small", Usage(input_tokens=10, output_tokens=10), None) is None
    assert catalog.cost("large", Usage(input_tokens=1_000_000, output_tokens=500_000), None) == pytest.approx(2.0)
    assert catalog.cost("large", Usage(input_tokens=None, output_tokens=5), 1.0) is None
    catalog.register(tuned("matcher"))
    assert catalog.cost("matcher", Usage(input_tokens=None, output_tokens=None), 10.0) == pytest.approx(0.001)


def test_a_model_without_a_price_costs_what_nobody_knows(tmp_path: Path, database: Database) -> None:
    free = Catalog(parse_config(GOOD.replace('price = "tokens"\n', ""), tmp_path, SETTINGS), database)
    assert free.resolve("large").model.price is None
    assert free.cost("large", Usage(input_tokens=1_000_000, output_tokens=500_000), 10.0) is None
    assert free.cost("small", Usage(input_tokens=None, output_tokens=None), 10.0) == pytest.approx(0.001)


def test_cached_input_has_a_price_of_its_own_where_there_is_one(tmp_path: Path, database: Database) -> None:
    toml = GOOD.replace("output_per_million = 2.0", "output_per_million = 2.0\ncached_input_per_million = 0.25")
    catalog = Catalog(parse_config(toml, tmp_path, SETTINGS), database)
    assert catalog.cost(
        "large", Usage(input_tokens=1_000_000, output_tokens=0, cached_tokens=400_000), None
    ) == pytest.approx(0.7)
    assert catalog.cost(
        "large", Usage(input_tokens=1_000_000, output_tokens=0, cached_tokens=2_000_000), None
    ) == pytest.approx(0.25), "no more than there are"
    assert catalog.cost("large", Usage(input_tokens=1_000_000, output_tokens=0), None) == pytest.approx(1.0)
    plain = Catalog(parse_config(GOOD, tmp_path, SETTINGS), database)
    assert plain.cost(
        "large", Usage(input_tokens=1_000_000, output_tokens=0, cached_tokens=400_000), None
    ) == pytest.approx(1.0)


def test_another_process_is_seen(catalog: Catalog, database: Database) -> None:
    other = Catalog(CONFIG, database)
    assert not other.refresh()
    version = catalog.register(tuned())
    catalog.put_route(a_route(version.id))
    assert other.route("matching") != a_route(version.id)
    assert other.resolve(version.id).version == version, "a name that is not known is looked up again"
    assert not other.refresh()
    assert other.route("matching") == a_route(version.id)
    notices = PolledNotices(database, 0.02)
    notices.subscribe(revisions.REGISTRY, other.refresh)
    notices.start()
    catalog.move_alias("small", "champion", version.id)
    deadline = time.monotonic() + 5
    while not other.aliases():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    notices.close()


def test_moves_at_the_same_time_are_all_remembered(catalog: Catalog, database: Database) -> None:
    ids = [catalog.register(tuned(adapter=letter)).id for letter in "abcd"]
    others = [Catalog(CONFIG, database) for _ in ids]
    threads = [
        threading.Thread(target=other.move_alias, args=("small", "champion", version_id))
        for other, version_id in zip(others, ids, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history = catalog.alias_history("small", "champion")
    assert [move.seq for move in history] == [4, 3, 2, 1]
    assert {move.version for move in history} == set(ids)
    catalog.refresh()
    assert catalog.resolve("small:champion").version.id == history[0].version


@pytest.mark.postgres
def test_one_thread_at_most_waits_for_a_database_that_does_not_answer(forwarder: Forwarder) -> None:
    database = Database.open_url(forwarder.url)
    catalog = Catalog(CONFIG, database)
    assert (catalog.has_target("small"), catalog.has_target("nothing")) == (True, False)
    forwarder.freeze()

    def look() -> None:
        with pytest.raises(NotFound):
            catalog.resolve("nothing")

    first = threading.Thread(target=look)
    first.start()
    time.sleep(0.2)  # longer than names are looked up again after
    look()
    assert first.is_alive(), "the second did not wait for what the first waits for"
    forwarder.thaw()
    first.join(20)
    database.close()
