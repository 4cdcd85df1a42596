"""The configuration file: what is right is parsed, what is wrong is refused by name."""

from pathlib import Path

import msgspec
import pytest

from bessemer.core.errors import ConfigError
from bessemer.core.routes import Target
from bessemer.core.settings import Settings
from bessemer.gateway.providers import SETTINGS
from bessemer.registry.config import load_config, parse_config
from bessemer.registry.upstreams import Timeouts

DATA = Path("/data")

GOOD = """
[prices.hour]
source = "a page"
date = "2026-01-01"
per_hour = 0.36

[prices.tokens]
source = "a page"
date = "2026-01-01"
input_per_million = 1.0
output_per_million = 2.0

[prompts.match]
system = "Answer yes or no."
user = "{{input.left}} = {{input.right}}?"

[models.small]
provider = "local"
path = "{data}/models/small.gguf"
price = "hour"
prompt = "match"
choices = ["no", "yes"]

[models.large]
provider = "openai"
base_url = "http://127.0.0.1:9/v1"
price = "tokens"

[routes.matching]
targets = ["small", {model = "large", weight = 2.0, prompt = "match"}]
fallbacks = ["large"]

[routes.cascade]
steps = [{targets = ["small:champion"]}, {targets = ["large"]}]
"""


def test_a_good_file_becomes_nouns() -> None:
    config = parse_config(GOOD, DATA, SETTINGS)
    assert config.models["small"].settings.path == "/data/models/small.gguf"
    assert config.models["large"].provider == "openai"
    assert config.base_versions["small"].choices == ("no", "yes")
    assert config.base_versions["small"].prompt == "match"
    assert config.routes["matching"].steps[0].targets[1] == Target(model="large", weight=2.0, prompt="match")
    assert [step.targets[0].model for step in config.routes["cascade"].steps] == ["small:champion", "large"]


def test_identity_depends_on_content_alone() -> None:
    moved = parse_config("# a comment\n" + GOOD, Path("/elsewhere"), SETTINGS)
    config = parse_config(GOOD, DATA, SETTINGS)
    assert moved.sha256 == config.sha256
    assert moved.base_versions["small"].id == config.base_versions["small"].id
    changed = parse_config(GOOD.replace('"no", "yes"', '"no", "maybe"'), DATA, SETTINGS)
    assert changed.sha256 != config.sha256
    assert changed.base_versions["small"].id != config.base_versions["small"].id


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("per_hour = 0.36", "per_huor = 0.36", r"prices\.hour.*per_huor.*Known keys"),
        ("[prompts.match]", "[promts.match]", "promts"),
        ('price = "hour"', 'price = "year"', r"models\.small.*price 'year'.*hour, tokens"),
        ('prompt = "match"\n', 'prompt = "mtach"\n', "prompt 'mtach'"),
        ('provider = "local"', 'provider = "magic"', "magic"),
        ('path = "{data}/models/small.gguf"\n', "", "needs path"),
        ('base_url = "http://127.0.0.1:9/v1"\n', "", "needs base_url"),
        ("http://127.0.0.1:9/v1", "127.0.0.1:9/v1", "base_url"),
        ("http://127.0.0.1:9/v1", "ftp://127.0.0.1:9/v1", "base_url"),
        ("http://127.0.0.1:9/v1", "http:///v1", "base_url"),
        ("http://127.0.0.1:9/v1", "http://127.0.0.1:99999/v1", "base_url"),
        ("http://127.0.0.1:9/v1", " http://127.0.0.1:9/v1", "base_url"),
        ("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1\\r", "base_url"),
        ("http://127.0.0.1:9/v1", "'http://127.0.0.1:9/v1'", "base_url"),
        ("http://127.0.0.1:9/v1", "http://me:secret@127.0.0.1:9/v1", "api_key_env"),
        ("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1?key=x", "query"),
        ("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1/chat/completions", "end it before"),
        ("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1/v1/", "twice"),
        ('9/v1"\n', '9/v1"\ntimeouts = { idle = 0.0 }\n', r"models\.large.*timeouts.idle"),
        ('9/v1"\n', '9/v1"\ntimeouts = { idel = 1.0 }\n', "idel"),
        ("per_hour = 0.36", "per_hour = 0.36\ninput_per_million = 1.0", "either"),
        ("output_per_million = 2.0", "", "either"),
        ("per_hour = 0.36", "per_hour = -1.0", "below 0"),
        ("per_hour = 0.36", "per_hour = 0.36\ncached_input_per_million = 1.0", "goes with input_per_million"),
        ("output_per_million = 2.0", "output_per_million = 2.0\ncached_input_per_million = -1.0", "below 0"),
        ("per_hour = 0.36", "per_hour = 0.36\naudio_input_per_million = 1.0", "goes with input_per_million"),
        ("output_per_million = 2.0", "output_per_million = 2.0\nservice_tiers = { batch = -0.5 }", "below 0"),
        ("output_per_million = 2.0", "output_per_million = 2.0\ntiers = [{ above_input_tokens = 9 }]", "a tier needs"),
        ("weight = 2.0", "weight = 0.0", "weight"),
        ('fallbacks = ["large"]', 'fallbacks = ["larger"]', r"routes\.matching.*larger.*large, small"),
        ("[routes.matching]", "[routes.small]", "model has this name"),
        ("[models.small]", '[models."a:b"]', "a:b"),
        ('choices = ["no", "yes"]', 'choices = ["no", "no"]', "twice"),
        ("[prompts.match]", "[prompts.match", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match=says):
        parse_config(GOOD.replace(old, new), DATA, SETTINGS)


def test_a_models_version_is_what_it_was_in_earlier_releases() -> None:
    config = parse_config(GOOD, DATA, SETTINGS)
    assert {name: version.id for name, version in config.base_versions.items()} == {
        "small": "small@6af6a190d4d8",
        "large": "large@4269c0edef62",
    }
    assert {version.lineage.base for version in config.base_versions.values()} == {
        "small:23ff3a7378c3",
        "large:34a4eabb6ff9",
    }


def test_a_key_of_another_provider_is_told_of_and_dropped(caplog: pytest.LogCaptureFixture) -> None:
    old = GOOD.replace('provider = "local"', 'provider = "local"\ntimeouts = { idle = 1.0 }\napi_key_env = "X"')
    config, plain = parse_config(old, DATA, SETTINGS), parse_config(GOOD, DATA, SETTINGS)
    assert (config.models, config.base_versions) == (plain.models, plain.base_versions)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["[models.small]"] * 2


def test_a_key_that_no_model_ever_had_is_refused() -> None:
    for table, key in (("small", "sha"), ("large", "sha256"), ("large", "path_to")):
        with pytest.raises(ConfigError, match=rf"models\.{table}.*`{key}`.*Known keys: provider, price"):
            parse_config(GOOD.replace(f"[models.{table}]\n", f'[models.{table}]\n{key} = "x"\n'), DATA, SETTINGS)


def test_a_route_has_targets_or_steps() -> None:
    with pytest.raises(ConfigError, match="either targets or steps"):
        parse_config("[routes.empty]\nfallbacks = []\n", DATA, SETTINGS)


def test_the_built_in_file_is_used_without_one(tmp_path: Path) -> None:
    config = load_config(tmp_path / "bessemer.toml", tmp_path, SETTINGS)
    assert config.models["smollm2-135m"].settings.path == f"{tmp_path}/models/SmolLM2-135M-Instruct.Q4_1.gguf"
    for price in config.prices.values():
        assert price.source.count("https://") == 1
        assert price.date[:2] == "20"
    assert config == load_config(None, tmp_path, SETTINGS)


def test_a_file_may_add_to_the_built_in_one(tmp_path: Path) -> None:
    path = tmp_path / "bessemer.toml"
    path.write_text("include_default = true\n" + GOOD)
    config = load_config(path, tmp_path, SETTINGS)
    assert {"smollm2-135m", "small", "large"} == set(config.models)
    assert "aws-c7i-large" in config.prices


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path, tmp_path, SETTINGS)


def test_the_documented_file_is_right_and_every_setting_is_told() -> None:
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    example = page.partition("```toml\n")[2].partition("```")[0]
    config = parse_config(example, DATA, SETTINGS)
    assert set(config.routes) == {"matching"}
    assert {"large", "own", "smollm2-135m"} <= set(config.models)
    told = page.partition("## Models")[0]
    assert [field.name for field in msgspec.structs.fields(Settings) if f"`{field.name}`" not in told] == []


@pytest.mark.parametrize(
    "template", ["{{ input.left | trim }}", "{input.left}", "{{item.left}}", "{% if input.left %}x{% endif %}"]
)
@pytest.mark.parametrize("key", ["system", "user", "grammar"])
def test_a_misspelled_placeholder_of_a_prompt_is_refused(key, template):
    text = "[prompts.match]\nuser = '{{input.left}}'\n" if key != "user" else "[prompts.match]\n"
    with pytest.raises(ConfigError, match=rf"prompts\.match\]: {key}"):
        parse_config(text + f'{key} = "{template}"\n', DATA, SETTINGS)


def test_timeouts_are_the_models_then_the_files_then_the_default() -> None:
    own = GOOD.replace('9/v1"\n', '9/v1"\ntimeouts = { idle = 7.0 }\n')
    own += '[models.other]\nprovider = "openai"\nbase_url = "http://127.0.0.1:9/v1"\n'
    config = parse_config("[timeouts]\nidle = 5.0\nconnect = 3.0\n" + own, DATA, SETTINGS)
    large, other = (config.models[name].settings.timeouts for name in ("large", "other"))
    assert (large.idle, large.connect, large.total) == (7.0, 3.0, Timeouts().total)
    assert (other.idle, other.connect, other.total) == (5.0, 3.0, Timeouts().total)
    assert config.base_versions["large"].id == parse_config(GOOD, DATA, SETTINGS).base_versions["large"].id


def test_rules_of_a_ladder_are_written_and_a_line_that_is_none_is_named() -> None:
    text = GOOD + '[[ladder.rules.matching]]\nwhen = ["title equal", "price alike 0.9"]\nanswer = "yes"\n'
    rule = parse_config(text, DATA, SETTINGS).rules["matching"][0]
    assert (rule.when, rule.answer) == (("title equal", "price alike 0.9"), "yes")
    with pytest.raises(ConfigError, match=r"\[ladder.rules.matching\]: 'title same' is no condition"):
        parse_config(text.replace("title equal", "title same"), DATA, SETTINGS)
