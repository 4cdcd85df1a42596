"""Options in a job's metadata: what cannot be is refused before anything runs."""

import pytest

from bessemer.core.errors import InvalidRequest
from bessemer.tuning.methods import RequestedMethod, check_options, check_suited, named, read_method
from bessemer.tuning.options import Options, parse_options

GRADER = {"type": "string_check", "name": "g", "input": "{{sample.output_text}}", "reference": "x", "operation": "eq"}


def asked(type_: str) -> RequestedMethod:
    return read_method({"type": type_, type_: {} if type_ == "supervised" else {"grader": GRADER}})


def test_options_are_read_from_strings_and_other_metadata_is_the_clients() -> None:
    metadata = {"team": "a", "bessemer.rank": "8", "bessemer.max_seconds": "1.5", "bessemer.field_threshold": "auto"}
    assert parse_options(metadata) == Options(rank=8, max_seconds=1.5, field_threshold="auto")
    assert parse_options(None) == Options()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_seconds", "0"),
        ("rank", "0"),
        ("samples_per_prompt", "1"),
        ("field_threshold", "1"),
        ("mention_replacement", "1.5"),
        ("objective", "fame"),
        ("ranks", "8"),
    ],
)
def test_an_option_that_cannot_be_is_named(key: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match=key) as caught:
        parse_options({f"bessemer.{key}": value})
    assert caught.value.param == "metadata"


@pytest.mark.parametrize(
    ("method", "key", "value"),
    [
        ("supervised", "metric", "f1"),
        ("supervised", "positive", "Yes"),
        ("supervised", "credit", "field"),
        ("supervised", "field_threshold", "auto"),
        ("supervised", "mention_group", "category"),
        ("reinforcement", "mention_replacement", "0.5"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(method: str, key: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match=f"bessemer.{key}") as caught:
        check_options(parse_options({f"bessemer.{key}": value}), asked(method))
    assert caught.value.param == "metadata"


def test_options_of_the_method_pass() -> None:
    check_options(
        parse_options({"bessemer.field_threshold": "auto", "bessemer.credit": "field"}), asked("reinforcement")
    )
    mentions = {"bessemer.mention_replacement": "0.5", "bessemer.mention_group": "category"}
    check_options(parse_options(mentions | {"bessemer.field_threshold": "0.5"}), asked("supervised"))


@pytest.mark.parametrize(
    ("method", "key", "value", "told"),
    [
        ("exact", "samples_per_prompt", "4", "needs a prompt or version without choices"),
        ("exact", "credit", "field", "needs a prompt or version without choices"),
        ("grpo", "objective", "reward", "needs a prompt or version with choices"),
        ("grpo", "metric", "f1", "needs a prompt or version with choices"),
    ],
)
def test_an_option_for_other_answers_is_refused(method: str, key: str, value: str, told: str) -> None:
    with pytest.raises(InvalidRequest, match=f"bessemer.{key} {told}"):
        check_suited(parse_options({f"bessemer.{key}": value}), named(method))


def test_options_for_the_answers_of_the_job_pass() -> None:
    check_suited(parse_options({"bessemer.metric": "f1", "bessemer.rank": "4"}), named("exact"))
    check_suited(parse_options({"bessemer.credit": "field"}), named("grpo"))
