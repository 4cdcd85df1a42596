"""The configuration file: models, prompts, prices and routes in TOML, parsed into frozen nouns or refused by name.

Sections: `[models.NAME]`, `[prompts.NAME]`, `[prices.ID]`, `[routes.NAME]`, `[gate]`, `[ladder]`. `{data}` in a path
is the data folder.
`include_default = true` starts from the built-in file and adds to it or replaces by name.
"""

import logging
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bessemer.core.content import content_hash
from bessemer.core.errors import ConfigError, InvalidRequest
from bessemer.core.ladders import WrittenRule, check_condition
from bessemer.core.limits import LimitRule, check_limit
from bessemer.core.models import ConfiguredAt, Lineage, Model, ModelVersion, Prompt, ProviderSettings
from bessemer.core.prices import Price, PriceTier, TokenRates, fault
from bessemer.core.routes import CachePolicy, MonitorPolicy, Route, Step, Target
from bessemer.core.template import check as check_template
from bessemer.core.types import JSON, Frozen
from bessemer.registry.policy import GatePolicy, check_policy
from bessemer.registry.routes import check_steps
from bessemer.registry.upstreams import Timeouts
from bessemer.registry.versions import check_name, make_version

Providers = Mapping[str, type[ProviderSettings]]
"""By name: the type of what a model says to its provider."""
_ONCE_EVERYBODYS = frozenset({"path", "base_url", "api_key_env", "upstream_model", "timeouts", "recorded"})
"""Keys that any model could hold in earlier releases, whether they meant something to its provider or not."""
RUNGS = "rungs"
"""The provider of versions that are rungs; no table of the file is a model of it."""
_MISSING = re.compile(r"missing required field `(?P<field>\w+)`")
_log = logging.getLogger(__name__)


class Config(Frozen, frozen=True):
    """Everything that the file says, by name."""

    models: dict[str, Model]
    prompts: dict[str, Prompt]
    prices: dict[str, Price]
    routes: dict[str, Route]
    base_versions: dict[str, ModelVersion]
    """By model: the model itself, without an adapter; dated when it is registered."""
    gate: GatePolicy
    rungs: Model | None
    """What all rungs of ladders are served as, but for the name; None: nothing here serves any."""
    rules: dict[str, tuple[WrittenRule, ...]]
    """By route: what is written for its rung of rules."""
    monitor: MonitorPolicy
    """Of the routes that ladders write."""
    limits: dict[str, LimitRule]
    sha256: str
    """Of the parsed content; comments and order do not count."""

    def rung(self, name: str) -> Model:
        """Return the model of that name, which is a rung. Raises ConfigError where none can be served."""
        if self.rungs is None:
            raise ConfigError(f"There is no provider {RUNGS!r} that could serve {name!r}.", param="provider")
        return msgspec.structs.replace(self.rungs, name=name)


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what the file holds; an unknown key is refused."""


class _ModelSection(_Section, frozen=True):
    """What every model may say; its table's other keys are its provider's."""

    provider: str
    price: str | None = None
    context_tokens: int = 2048
    prompt: str | None = None
    choices: tuple[str, ...] = ()
    choice_bias: tuple[float, ...] = ()
    response_schema: JSON | None = None
    grammar: str | None = None
    max_tokens: int = 256
    temperature: float | None = None


class _PromptSection(_Section, frozen=True):
    user: str
    system: str | None = None
    choices: tuple[str, ...] = ()
    response_schema: JSON | None = None
    grammar: str | None = None
    max_tokens: int | None = None


class _PriceSection(_Section, frozen=True):
    source: str
    date: str
    input_per_million: float | None = None
    output_per_million: float | None = None
    cached_input_per_million: float | None = None
    cache_write_per_million: float | None = None
    image_input_per_million: float | None = None
    audio_input_per_million: float | None = None
    reasoning_per_million: float | None = None
    audio_output_per_million: float | None = None
    image_output_per_million: float | None = None
    per_hour: float | None = None
    tiers: tuple[PriceTier, ...] = ()
    service_tiers: dict[str, float] = {}


class _TargetSection(_Section, frozen=True):
    model: str
    weight: float = 1.0
    prompt: str | None = None


class _StepSection(_Section, frozen=True):
    targets: tuple[str | _TargetSection, ...]


class _RouteSection(_Section, frozen=True):
    targets: tuple[str | _TargetSection, ...] = ()
    steps: tuple[_StepSection, ...] = ()
    fallbacks: tuple[str | _TargetSection, ...] = ()
    cache: CachePolicy | None = None


class _LadderSection(_Section, frozen=True):
    price: str | None = None
    """Id of the price that the seconds of rungs cost; left out: what they cost is not known."""
    rules: dict[str, tuple[WrittenRule, ...]] = {}
    """By route: rules that stand first in its rung of rules."""
    monitor: MonitorPolicy = MonitorPolicy()
    """How the rungs of the routes that ladders write are watched."""


class _File(_Section, frozen=True):
    include_default: bool = False
    timeouts: Timeouts = Timeouts()
    """Of every model whose provider has timeouts and that does not say otherwise."""
    models: dict[str, JSON] = {}
    prompts: dict[str, _PromptSection] = {}
    prices: dict[str, _PriceSection] = {}
    routes: dict[str, _RouteSection] = {}
    gate: GatePolicy = GatePolicy()
    ladder: _LadderSection = _LadderSection()
    limits: dict[str, LimitRule] = {}


def load_config(path: Path | None, data: Path, providers: Providers) -> Config:
    """Read the file at `path`, or the built-in one when `path` is None or no such file exists.

    `providers`: what each provider's models may say. Raises ConfigError that names the file, the key and the remedy.
    """
    if path is None or not path.exists():
        return _build(_builtin(), data, providers)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration {str(path)!r} cannot be read: {error}.", param="config") from error
    return parse_config(text, data, providers, name=str(path))


def parse_config(text: str, data: Path, providers: Providers, *, name: str = "configuration") -> Config:
    """Read a configuration from TOML text. Raises ConfigError that says its name, the key and the remedy."""
    return _build(_parse(text, name), data, providers)


def _builtin() -> dict[str, Any]:
    return tomllib.loads((resources.files("bessemer.registry") / "default.toml").read_text())


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not valid TOML: {error}.", param="config") from error
    if values.get("include_default") is not True:
        return values
    merged = _builtin()
    for section in ("models", "prompts", "prices", "routes"):
        if isinstance(values.get(section, {}), dict):
            values[section] = {**merged.get(section, {}), **values.get(section, {})}
    values.setdefault("ladder", merged.get("ladder", {}))
    return values


def _build(values: dict[str, Any], data: Path, providers: Providers) -> Config:
    try:
        file = msgspec.convert(values, _File)
    except msgspec.ValidationError as error:
        raise ConfigError(f"Configuration: {_explain(error, values)}", param="config") from error
    for section in ("models", "prompts", "prices", "routes"):
        for name in getattr(file, section):
            with _place(f"{section}.{name}"):
                check_name(name, section)
    prices = {name: _price(name, section) for name, section in file.prices.items()}
    prompts = {name: _prompt(name, section) for name, section in file.prompts.items()}
    tables = {name: _table(name, table, values.get("timeouts", {}), providers) for name, table in file.models.items()}
    models = {name: _model(name, table, data) for name, table in tables.items()}
    bases = {name: _base_version(name, table, prompts) for name, table in tables.items()}
    routes = {name: _route(name, section) for name, section in file.routes.items()}
    config = Config(
        models=models,
        prompts=prompts,
        prices=prices,
        routes=routes,
        base_versions=bases,
        gate=check_policy(file.gate),
        rungs=_rungs(file.ladder, providers),
        rules=_rules(file.ladder),
        monitor=file.ladder.monitor,
        limits={name: check_limit(name, rule) for name, rule in file.limits.items()},
        sha256=content_hash({key: value for key, value in values.items() if key != "include_default"}),
    )
    _check_references(config)
    return config


def _explain(error: msgspec.ValidationError, values: dict[str, Any]) -> str:
    """Name the place with the file's own keys: msgspec writes `[...]` for the name of a table."""
    message = str(error).rstrip(".")
    known: dict[str, type[msgspec.Struct]] = {
        "limits": LimitRule,
        "prompts": _PromptSection,
        "prices": _PriceSection,
        "routes": _RouteSection,
    }
    for section, kind in known.items():
        if f"$.{section}[...]" in message:
            for name, content in values.get(section, {}).items():
                try:
                    msgspec.convert(content, kind)
                except msgspec.ValidationError:
                    fields = ", ".join(field.name for field in msgspec.structs.fields(kind))
                    return f"[{section}.{name}]: {message}. Known keys: {fields}."
    place: type[msgspec.Struct] = GatePolicy if "$.gate" in message else _File
    fields = ", ".join(field.name for field in msgspec.structs.fields(place))
    return f"{message}. Known keys: {fields}."


@contextmanager
def _place(place: str) -> Iterator[None]:
    """Say in which table of the file a value is wrong."""
    try:
        yield
    except ConfigError:
        raise
    except InvalidRequest as error:
        raise ConfigError(f"[{place}]: {error.message}", param=error.param) from error


def _price(name: str, section: _PriceSection) -> Price:
    tokens = (section.input_per_million, section.output_per_million)
    by_tokens, by_hour = all(v is not None for v in tokens), section.per_hour is not None
    if by_tokens == by_hour or any(v is not None for v in tokens) != by_tokens:
        raise ConfigError(
            f"[prices.{name}]: give either input_per_million and output_per_million, or per_hour.",
            param="per_hour",
        )
    price = Price(id=name, **msgspec.structs.asdict(section))
    others = [field for field in TokenRates.__struct_fields__ if getattr(price, field) is not None]
    others += [field for field in ("tiers", "service_tiers") if getattr(price, field)]
    if by_hour and others:
        raise ConfigError(f"[prices.{name}]: {others[0]} goes with input_per_million; remove it.", param=others[0])
    for tier in price.tiers:
        if tier.input_per_million is None or tier.output_per_million is None or tier.above_input_tokens < 1:
            raise ConfigError(
                f"[prices.{name}]: a tier needs above_input_tokens (1 or more), input_per_million, output_per_million.",
                param="tiers",
            )
    if any(map(fault, (price, *price.tiers))) or min((section.per_hour or 0, *price.service_tiers.values())) < 0:
        raise ConfigError(f"[prices.{name}]: a price is below 0.", param="price")
    return price


def _prompt(name: str, section: _PromptSection) -> Prompt:
    for key in ("user", "system", "grammar"):
        _check_template(f"prompts.{name}", key, getattr(section, key))
    return Prompt(name=name, **msgspec.structs.asdict(section))


def _check_template(place: str, key: str, template: str | None) -> None:
    try:
        check_template(template or "", ("input",))
    except InvalidRequest as error:
        raise ConfigError(f"[{place}]: {key}: {error.message}", param=key) from None


class _Table(NamedTuple):
    """A model's table, read."""

    section: _ModelSection
    settings: ProviderSettings


def _table(name: str, table: JSON, timeouts: JSON, providers: Providers) -> _Table:
    """Part what every model may say from what its provider may be told. Raises ConfigError that names the key."""
    general = set(_ModelSection.__struct_fields__)
    provider = table.get("provider")
    if "provider" in table and provider not in providers:
        raise ConfigError(
            f"[models.{name}]: there is no provider {provider!r}. Known: {', '.join(sorted(providers))}.",
            param="provider",
        )
    kind = providers.get(provider or "", ProviderSettings)
    fields = set(kind.__struct_fields__)
    own = {key: value for key, value in table.items() if key not in general}
    for key in (own.keys() & _ONCE_EVERYBODYS) - fields:
        _log.warning("[models.%s]: %s means nothing to the provider %r; remove it.", name, key, provider)
        del own[key]
    if timeouts and "timeouts" in fields:
        given = own.get("timeouts", {})
        own["timeouts"] = {**timeouts, **given} if isinstance(given, dict) else given
    try:
        section = msgspec.convert({key: value for key, value in table.items() if key in general}, _ModelSection)
        return _Table(section, msgspec.convert(own, kind))
    except msgspec.ValidationError as error:
        message = str(error).rstrip(".")
        if (missing := _MISSING.search(message)) and provider is not None and "$." not in message:
            field = missing["field"]
            raise ConfigError(f"[models.{name}]: the provider {provider!r} needs {field}.", param=field) from error
        known = ", ".join([*_ModelSection.__struct_fields__, *kind.__struct_fields__])
        raise ConfigError(f"[models.{name}]: {message}. Known keys: {known}.", param="config") from error


def _model(name: str, table: _Table, data: Path) -> Model:
    section = table.section
    if section.context_tokens < 1:
        raise ConfigError(f"[models.{name}]: context_tokens is below 1.", param="context_tokens")
    return Model(
        name=name,
        provider=section.provider,
        settings=table.settings.completed(ConfiguredAt(f"models.{name}", data)),
        price=section.price,
        context_tokens=section.context_tokens,
    )


def _rungs(section: _LadderSection, providers: Providers) -> Model | None:
    if RUNGS not in providers:
        return None
    return Model(name=RUNGS, provider=RUNGS, settings=providers[RUNGS](), price=section.price)


def _rules(section: _LadderSection) -> dict[str, tuple[WrittenRule, ...]]:
    for route, rules in section.rules.items():
        with _place(f"ladder.rules.{route}"):
            for condition in (condition for rule in rules for condition in rule.when):
                check_condition(condition)
    return section.rules


def _base_version(name: str, table: _Table, prompts: Mapping[str, Prompt]) -> ModelVersion:
    """The version that stands for the model itself; where it is served from and its prompt's text are part of it."""
    section = table.section
    identity = {"provider": section.provider, **table.settings.identity(name)}
    prompt = prompts.get(section.prompt or "")
    _check_template(f"models.{name}", "grammar", section.grammar)
    with _place(f"models.{name}"):
        return make_version(
            name,
            created_at=0.0,
            prompt=section.prompt,
            prompt_sha256=None if prompt is None else content_hash(prompt),
            choices=section.choices,
            choice_bias=section.choice_bias,
            response_schema=section.response_schema,
            grammar=section.grammar,
            max_tokens=section.max_tokens,
            temperature=section.temperature,
            lineage=Lineage(base=f"{name}:{content_hash(identity)[:12]}"),
        )


def _target(section: str | _TargetSection, place: str) -> Target:
    if isinstance(section, str):
        return Target(model=section)
    if not section.weight > 0:
        raise ConfigError(f"[{place}]: the weight of {section.model!r} is not above 0.", param="weight")
    return Target(**msgspec.structs.asdict(section))


def _route(name: str, section: _RouteSection) -> Route:
    place = f"routes.{name}"
    if bool(section.targets) == bool(section.steps):
        raise ConfigError(f"[{place}]: give either targets or steps.", param="targets")
    steps = section.steps or (_StepSection(targets=section.targets),)
    route = Route(
        name=name,
        steps=tuple(Step(targets=tuple(_target(t, place) for t in step.targets)) for step in steps),
        fallbacks=tuple(_target(t, place) for t in section.fallbacks),
        cache=section.cache,
    )
    with _place(place):
        check_steps(route)
    return route


def _check_references(config: Config) -> None:
    """Refuse names that lead nowhere. Aliases and versions are known to the database, so only the model is checked."""
    if config.rungs is not None and config.rungs.price is not None:
        _known("ladder", "price", config.rungs.price, config.prices)
    for model in config.models.values():
        if model.price is not None:
            _known(f"models.{model.name}", "price", model.price, config.prices)
    for version in config.base_versions.values():
        if version.prompt is not None:
            _known(f"models.{version.model}", "prompt", version.prompt, config.prompts)
    for route in config.routes.values():
        if route.name in config.models:
            raise ConfigError(f"[routes.{route.name}]: a model has this name: rename one.", param="routes")
        for target in [*(t for step in route.steps for t in step.targets), *route.fallbacks]:
            if ":" not in target.model and "@" not in target.model:
                _known(f"routes.{route.name}", "model", target.model, config.models)
            if target.prompt is not None:
                _known(f"routes.{route.name}", "prompt", target.prompt, config.prompts)


def _known(place: str, key: str, name: str, names: dict[str, Any]) -> None:
    if name not in names:
        raise ConfigError(
            f"[{place}]: {key} {name!r} is not defined. Defined: {', '.join(sorted(names)) or 'none'}.", param=key
        )
