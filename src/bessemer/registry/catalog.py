"""The catalog: what may be asked for, in memory. The file gives models and prices, the database versions and routes.

Reads do not touch the database, but for a name that is not known: it may be new. Who must not wait asks `has_route` or
`has_target` first. Changes are written first, then seen here at once, and by other processes as soon as change notices
make them `refresh`. A route in the database wins over the file's.
"""

import copy
import threading
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

import msgspec

from bessemer.core.access import Principal
from bessemer.core.content import content_hash
from bessemer.core.errors import ConfigError, Conflict, InvalidRequest, NotFound, StoreError
from bessemer.core.ladders import WrittenRule
from bessemer.core.models import Alias, Model, ModelVersion, Prompt
from bessemer.core.prices import Price, cost_of
from bessemer.core.reply import Usage
from bessemer.core.routes import CachePolicy, MonitorPolicy, Route, Step, Target
from bessemer.core.types import DEFAULT_PROJECT, Frozen, as_json
from bessemer.registry.config import Config
from bessemer.registry.policy import GatePolicy
from bessemer.registry.routes import check_steps
from bessemer.registry.versions import check_name, default_name, version_id
from bessemer.store import audit, revisions, routes, versions
from bessemer.store.database import Database
from bessemer.store.versions import AliasMove

T = TypeVar("T")

CHAMPION = "champion"
_MISS_REFRESH_S = 0.05
"""How often unknown names may make the catalog compare revisions."""


class Resolved(NamedTuple):
    """What a target means right now."""

    model: Model
    """Where the answer comes from."""
    version: ModelVersion


class _Owned(Frozen, frozen=True):
    """What one project may ask for beside the file: the versions of configured models, and what is its own."""

    versions: dict[str, ModelVersion]
    """By id, oldest first."""
    aliases: dict[str, Alias]
    """By `model:alias`."""
    routes: dict[str, Route]
    config_sha256: str


class _View(Frozen, frozen=True):
    """One consistent picture of the database."""

    revision: int
    shared: _Owned
    """What a project sees that owns nothing."""
    projects: dict[str, _Owned]


class _Seen:
    """The last picture, which the catalogs of all projects share."""

    def __init__(self, view: _View) -> None:
        self.view = view
        self.missed_at = float("-inf")


class Catalog:
    """Models, versions, aliases, routes, prompts and prices by name, as one project sees them: the file's are
    everybody's, the database's its own. Safe to share between threads.
    """

    def __init__(self, config: Config, database: Database) -> None:
        """Register the configured models' base versions and load everything.

        Raises StoreError, ConfigError for a file that has changed what a version in force was made with.
        """
        self._config = config
        self._prompt_sha256 = {name: content_hash(prompt) for name, prompt in config.prompts.items()}
        self._everything = database
        self._project = DEFAULT_PROJECT
        self._names_others = True
        self._database = database.within(DEFAULT_PROJECT)
        known = {version.id for found in versions.find(database).values() for version in found}
        for version in config.base_versions.values():
            if version.id not in known:
                self._insert(msgspec.structs.replace(version, created_at=time.time()))
        self._seen = _Seen(self._load())
        for project in {DEFAULT_PROJECT, *self._seen.view.projects}:
            self.within(project)._check_in_force()
        self._looking = threading.Lock()

    def within(self, project: str) -> "Catalog":
        """Return the catalog as a project sees it; what changes through it is the project's."""
        if project == self._project:
            return self
        scoped = copy.copy(self)
        scoped._project = project
        scoped._database = self._everything.within(project)
        return scoped

    def seen_by(self, principal: Principal) -> "Catalog":
        """Return the catalog as a key sees it: its project's; where the key is limited to some models, no error names
        what else there is."""
        scoped = self.within(principal.project_id)
        if principal.models is not None:
            scoped = copy.copy(scoped)
            scoped._names_others = False
        return scoped

    def _known(self, names: Iterable[str], what: str = "") -> str:
        """Return the end of an error that says what there is."""
        return f" Known{what}: {', '.join(names) or 'none'}." if self._names_others else ""

    @property
    def _mine(self) -> _Owned:
        view = self._seen.view
        return view.projects.get(self._project, view.shared)

    # -- reading ------------------------------------------------------------------------------------------------------

    @property
    def config_sha256(self) -> str:
        """Hash of the file and of the database's routes and aliases: of everything that decides who answers."""
        return self._mine.config_sha256

    @property
    def gate_policy(self) -> GatePolicy:
        """What the file says about who may become champion."""
        return self._config.gate

    def written_rules(self, route: str) -> tuple[WrittenRule, ...]:
        """Return the rules that the file writes for a route's rung of rules."""
        return self._config.rules.get(route, ())

    @property
    def monitor_policy(self) -> MonitorPolicy:
        """How the file has routes with rungs watched."""
        return self._config.monitor

    def models(self) -> list[Model]:
        """Return the configured models."""
        return list(self._config.models.values())

    def model(self, name: str) -> Model:
        """Return a configured model. Raises NotFound that names the known ones."""
        return self._look_up(self._config.models, name, "model")

    def prompts(self) -> list[Prompt]:
        """Return the prompts."""
        return list(self._config.prompts.values())

    def prompt(self, name: str) -> Prompt:
        """Return a prompt. Raises NotFound that names the known ones."""
        return self._look_up(self._config.prompts, name, "prompt")

    def prices(self) -> list[Price]:
        """Return the prices."""
        return list(self._config.prices.values())

    def price(self, price_id: str) -> Price:
        """Return a price. Raises NotFound that names the known ones."""
        return self._look_up(self._config.prices, price_id, "price")

    def versions(self, model: str | None = None) -> list[ModelVersion]:
        """Return versions, oldest first."""
        return [version for version in self._mine.versions.values() if model in {None, version.model}]

    def version(self, version_id: str) -> ModelVersion:
        """Return a version by its id or OpenAI's name. Raises NotFound that names the model's known ones."""
        found = self._meant(version_id) if is_version(version_id) else None
        if found is None and is_version(version_id) and self._looked_again():
            found = self._meant(version_id)
        if found is None:
            raise self._unknown(version_id)
        return found

    def weights(self, model: str) -> str | None:
        """Return what identifies a configured model's weights: its name with a hash of where it is served from.

        None for a rung, which has none.
        """
        version = self._config.base_versions.get(model)
        return version.lineage.base if version is not None and version.lineage is not None else None

    def openai_name(self, version: ModelVersion, organization: str) -> str | None:
        """Return OpenAI's form of a tuned model's name, `ft:base:org:suffix:hash`.

        None for a model itself, for a rung, and for what was tuned from one that is not configured any more.
        """
        if version.lineage is None or version.lineage.method is None or version.rung_sha256 is not None:
            return None
        try:
            base = self._base_model(version).name
        except InvalidRequest:
            return None
        suffix = "" if version.model == default_name(base) else version.model
        return f"ft:{base}:{organization}:{suffix}:{version.id.rpartition('@')[2]}"

    def aliases(self, model: str | None = None) -> list[Alias]:
        """Return where the aliases point."""
        return [alias for alias in self._mine.aliases.values() if model in {None, alias.model}]

    def alias_history(self, model: str, alias: str) -> list[AliasMove]:
        """Return every move of an alias, newest first; read from the database."""
        return versions.history(self._database, model, alias)

    def has_target(self, name: str) -> bool:
        """Return whether memory has a model, alias or version of that name, so that `resolve` will not block."""
        return self._meant(name) is not None

    def resolve(self, target: str) -> Resolved:
        """Return what `model`, `model:alias`, `model@hash` or OpenAI's `ft:base:org:suffix:hash` means now.

        A model alone is its base version; for a model that exists only as tuned versions, its champion, else its newest
        version. Raises NotFound that names what is known, Conflict for a version whose prompt or weights have changed.
        """
        version = self._meant(target)
        if version is None and self._looked_again():
            version = self._meant(target)
        if version is None:
            raise self._unknown(target)
        model = self._base_model(version)
        self._check_unchanged(version, model)
        return Resolved(model, version)

    def taken(self, name: str, base: str) -> str | None:
        """Return what has this name already, in words, so that nothing tuned from `base` may; None: it is free."""
        if name in self._config.models and name != base:
            return "a configured model"
        return "a route" if self.has_route(name) else None

    def routes(self) -> list[Route]:
        """Return the routes in force, by name."""
        merged = {**self._config.routes, **self._mine.routes}
        return [merged[name] for name in sorted(merged)]

    def put_routes(self) -> list[tuple[str, Route]]:
        """Return the routes that were put at run time, of all projects: each with its project."""
        view = self._seen.view
        return [(project, route) for project, owned in view.projects.items() for route in owned.routes.values()]

    def has_route(self, name: str) -> bool:
        """Return whether there is a route of that name."""
        return name in self._mine.routes or name in self._config.routes

    def route(self, name: str) -> Route:
        """Return the route in force. Raises NotFound that names the known ones."""
        found = self._mine.routes.get(name) or self._config.routes.get(name)
        return found or self._look_up({**self._config.routes, **self._mine.routes}, name, "route")

    def kept_answers(self, name: str) -> CachePolicy | None:
        """Return which answers of a route are kept, for whatever is put in its place; None: none, or no such route."""
        return self.route(name).cache if self.has_route(name) else None

    def routes_changed_at(self) -> dict[str, float]:
        """Return when each route that was put at run time was changed last. Reads the database."""
        return routes.changed_at(self._database)

    def route_or_target(self, name: str) -> Route:
        """Return the route of that name, or a route with the model, alias or version of that name as its only target.

        Raises NotFound that names the known routes and models.
        """
        if self.has_route(name):
            return self.route(name)
        try:
            version = self.resolve(name).version
        except NotFound as error:
            known = self._known((route.name for route in self.routes()), " routes")
            raise NotFound(f"{error.message}{known}", param="model", code="model_not_found") from error
        # OpenAI's name of a version has parts that a client may write as it likes: the route has the version's own.
        own = version.id if name.startswith("ft:") else name
        return Route(name=own, steps=(Step(targets=(Target(model=own),)),))

    def cost(self, model: str, usage: Usage, seconds: float | None) -> float | None:
        """Return the cost in USD of a call to a configured or tuned model; None when it has no price, or as `cost_of`
        says.
        """
        configured = self._config.models.get(model) or self.resolve(model).model
        return None if configured.price is None else cost_of(self.price(configured.price), usage, seconds)

    # -- changing -----------------------------------------------------------------------------------------------------

    def register(self, version: ModelVersion) -> ModelVersion:
        """Keep a version for good; its id is computed from its content, so the same content is registered once.

        Raises InvalidRequest when the model is neither configured nor tuned from a configured one.
        """
        check_name(version.model, "model")
        version = msgspec.structs.replace(version, id=version_id(version))
        self._base_model(version)
        if version.prompt is not None:
            self.prompt(version.prompt)
        self._insert(version)
        self._database.on_commit(self._reload)
        return versions.get(self._database, version.id)

    def move_alias(
        self, model: str, alias: str, version_id: str, reason: str = "", evaluation: str | None = None
    ) -> Alias:
        """Point an alias at a version of its model, on the ground of an evaluation if there is one.

        Raises NotFound, InvalidRequest for a name that cannot be.
        """
        check_name(alias, "alias")
        served = self._seen.view.shared.versions
        moved = versions.move_alias(
            self._database, model, alias, version_id, reason, served=served, evaluation=evaluation
        )
        self._database.on_commit(self._reload)
        return moved

    def rollback(self, model: str, alias: str, reason: str = "") -> Alias | None:
        """Undo the alias's last move that is not undone yet; None: it points nowhere now. Raises Conflict."""
        moved = versions.roll_back(self._database, model, alias, reason or "rolled back")
        self._database.on_commit(self._reload)
        return moved

    def put_route(self, route: Route, reason: str = "") -> Route:
        """Put a route in force over any other of its name. Raises InvalidRequest, or NotFound for what it names."""
        self._check_route(route)
        routes.put(self._database, route, reason)
        self._database.on_commit(self._reload)
        return route

    def rollback_route(self, name: str, reason: str = "") -> Route | None:
        """Undo the route's last change that is not undone yet; at the end stands the file's route, if there is one.

        Returns the route now in force. Raises Conflict when there is nothing to undo.
        """
        route = routes.roll_back(self._database, name, reason or "rolled back")
        self._database.on_commit(self._reload)
        return route or self._config.routes.get(name)

    def refresh(self) -> bool:
        """Load what other processes changed; return whether anything did. Reads one row when nothing did."""
        if revisions.current(self._everything, revisions.REGISTRY) == self._seen.view.revision:
            return False
        self._reload()
        return True

    # -- inside -------------------------------------------------------------------------------------------------------

    def _reload(self) -> None:
        view = self._load()
        if view.revision >= self._seen.view.revision:
            self._seen.view = view

    def _load(self) -> _View:
        # The revision is read first: a change that comes in between is loaded now and once more later, never missed.
        revision = revisions.current(self._everything, revisions.REGISTRY)
        found, aliases = versions.find(self._everything), versions.aliases(self._everything)
        put = routes.current(self._everything)
        served = {row.id: row for rows in found.values() for row in rows if self._is_served(row)}

        def owned(project: str) -> _Owned:
            own = {f"{alias.model}:{alias.name}": alias for alias in aliases.get(project, ())}
            changed = put.get(project, {})
            deciding = {
                "config": self._config.sha256,
                "aliases": {name: alias.version for name, alias in own.items()},
                "routes": {name: as_json(route) for name, route in changed.items()},
            }
            seen = served | {row.id: row for row in found.get(project, ())}
            return _Owned(
                versions=dict(sorted(seen.items(), key=lambda item: (item[1].created_at, item[0]))),
                aliases=own,
                routes=changed,
                config_sha256=content_hash(deciding),
            )

        projects = {*found, *aliases, *put}
        return _View(revision=revision, shared=owned(""), projects={project: owned(project) for project in projects})

    def _insert(self, version: ModelVersion) -> None:
        """Append a version that is not known yet, with its audit event: a configured model has made it, or a job."""
        lineage = version.lineage
        detail = {} if lineage is None else {"job": lineage.job_id, "base": lineage.base, "method": lineage.method}
        with self._database.transaction():
            if versions.insert(self._database, version):
                made = {name: value for name, value in detail.items() if value is not None}
                audit.append(self._database, audit.SYSTEM, "version.created", version.id, made)

    def _is_served(self, version: ModelVersion) -> bool:
        """Whether a version is a model itself, the configuration file's now or before: nobody's own."""
        return version.lineage is None or version.lineage.method is None

    def _looked_again(self) -> bool:
        """Return whether the database holds something new: the worker may have made a version a moment ago.

        Asked at most every `_MISS_REFRESH_S` and by one thread at a time, so that wrong names cost nothing, and a
        database that does not answer one thread. Nothing is new while it is down.
        """
        if time.monotonic() - self._seen.missed_at < _MISS_REFRESH_S or not self._looking.acquire(blocking=False):
            return False
        try:
            self._seen.missed_at = time.monotonic()
            return self.refresh()
        except StoreError:
            return False
        finally:
            self._looking.release()

    def _meant(self, target: str) -> ModelVersion | None:
        view = self._mine
        if target.startswith("ft:"):
            digits = "@" + target.rpartition(":")[2]
            found = (row for name, row in view.versions.items() if name.endswith(digits))
            organization = target.split(":")[2] if target.count(":") == 4 else ""
            return next((row for row in found if self.openai_name(row, organization) == target), None)
        if "@" in target:
            return view.versions.get(target)
        if ":" in target:
            alias = view.aliases.get(target)
            return view.versions.get(alias.version) if alias else None
        return self._named(view, target)

    def _named(self, view: _Owned, model: str) -> ModelVersion | None:
        base = self._config.base_versions.get(model)
        if base is not None:
            return view.versions.get(base.id, base)
        champion = view.aliases.get(f"{model}:{CHAMPION}")
        if champion is not None:
            return view.versions.get(champion.version)
        return next((version for version in reversed(view.versions.values()) if version.model == model), None)

    def _base_model(self, version: ModelVersion) -> Model:
        """Return what serves a version: its own configured model, the one that it was tuned from, or the rungs'."""
        if version.rung_sha256 is not None:
            return self._config.rung(version.model)
        seen: set[str] = set()
        current: ModelVersion | None = version
        while current is not None and current.id not in seen:
            if current.model in self._config.models and (current.adapter_sha256 is None or current.lineage is None):
                return self._config.models[current.model]
            seen.add(current.id)
            base = current.lineage.base if current.lineage else ""
            name = base.split("@", 1)[0].split(":", 1)[0]
            if name in self._config.models:
                return self._config.models[name]
            current = self._mine.versions.get(base)
        raise InvalidRequest(
            f"{version.id}: neither its model nor the base in its lineage is configured. "
            f"Configured: {', '.join(sorted(self._config.models)) or 'none'}.",
            param="lineage.base",
        )

    def _check_unchanged(self, version: ModelVersion, model: Model) -> None:
        """A version answers with what it was made with, or not at all."""
        if version.prompt_sha256 not in {None, self._prompt_sha256.get(version.prompt or "")}:
            raise Conflict(
                f"{version.id} was made with another text of [prompts.{version.prompt}]: restore that text, and give "
                "the new one a name of its own.",
                param="prompt",
            )
        weights = version.lineage.weights if version.lineage else None
        if weights not in {None, self.weights(model.name)}:
            raise Conflict(
                f"{version.id} was tuned from other weights than [models.{model.name}] names now: restore them, and "
                "give the new ones a name of their own.",
                param="path",
            )

    def _check_in_force(self) -> None:
        """Raise ConfigError for what would now answer otherwise. What cannot answer at all says so when it is asked."""
        aliased = {alias.version: f"the alias {name}" for name, alias in self._mine.aliases.items()}
        targets = [(target.model, route.name) for route in self.routes() for target in route.targets]
        routed = {name: f"the route {route!r}" for name, route in targets}
        for name, where in {**aliased, **routed}.items():
            version = self._meant(name)
            if version is not None:
                try:
                    self.resolve(version.id)
                except Conflict as error:
                    raise ConfigError(f"{where}: {error.message}", param=error.param) from error
                except InvalidRequest:
                    continue

    def _check_route(self, route: Route) -> None:
        check_name(route.name, "route")
        if route.name in self._config.models:
            raise Conflict(f"A model is named {route.name!r}: name the route otherwise.", param="name")
        check_steps(route)
        for target in route.targets:
            self.resolve(target.model)
            if target.prompt is not None:
                self.prompt(target.prompt)
            if not target.weight > 0:
                raise InvalidRequest(f"The weight of {target.model!r} is not above 0.", param="weight")
        for step in route.steps:
            if step.calibration is not None:
                self.version(step.calibration.version)

    def _unknown(self, target: str) -> NotFound:
        name = target.split("@", 1)[0].split(":", 1)[0]
        view = self._mine
        of_model = [f"{a.model}:{a.name}" for a in view.aliases.values() if a.model == name]
        of_model += [version.id for version in view.versions.values() if version.model == name]
        known = of_model or sorted({*self._config.models, *(version.model for version in view.versions.values())})
        return NotFound(
            f"There is no model {target!r}.{self._known(known[:20])}", param="model", code="model_not_found"
        )

    def _look_up(self, table: Mapping[str, T], name: str, what: str) -> T:
        if name not in table:
            raise NotFound(f"There is no {what} {name!r}.{self._known(sorted(table))}", param=what)
        return table[name]


def is_version(target: str) -> bool:
    """Return whether a name is that of a version, which always means the same."""
    return "@" in target or target.startswith("ft:")
