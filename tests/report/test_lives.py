"""The lives in docs/architecture.md: at most ten lines each, and each hop is a name that exists."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
LIVES = {
    "a request": {
        "front": "bessemer.http.front",
        "authentication": "bessemer.identity.authentication",
        "Dialect": "bessemer.dialects.base:Dialect",
        "Gateway": "bessemer.gateway.pipeline:Gateway",
        "Stages": "bessemer.gateway.stages:Stages",
        "resolve": "bessemer.gateway.resolve",
        "Strategy": "bessemer.gateway.strategy:Strategy",
        "strategy": "bessemer.gateway.strategy",
        "cascade": "bessemer.gateway.cascade",
        "render": "bessemer.gateway.render",
        "Provider": "bessemer.gateway.providers.base:Provider",
        "Attempts": "bessemer.gateway.attempt:Attempts",
        "Catalog": "bessemer.registry.catalog:Catalog",
        "record": "bessemer.gateway.record",
        "Writer": "bessemer.store.writer:Writer",
        "WireRequest": "bessemer.dialects.base:WireRequest",
        "EventWriter": "bessemer.dialects.base:EventWriter",
    },
    "an improvement": {
        "record": "bessemer.feedback.record",
        "datasets": "bessemer.feedback.datasets",
        "rungs": "bessemer.flywheel.rungs",
        "ladder_models": "bessemer.flywheel.ladder_models",
        "ladder_choice": "bessemer.flywheel.ladder_choice",
        "preparation": "bessemer.tuning.preparation",
        "Tuner": "bessemer.tuning.tuner:Tuner",
        "TuningRun": "bessemer.tuning.run:TuningRun",
        "evaluation": "bessemer.flywheel.evaluation",
        "gate": "bessemer.evals.gate",
        "looks": "bessemer.store.looks",
        "standing": "bessemer.flywheel.standing",
        "promotion": "bessemer.flywheel.promotion",
        "confidence": "bessemer.evals.confidence",
        "guarantee": "bessemer.evals.guarantee",
        "cascade": "bessemer.flywheel.cascade",
    },
    "a job": {
        "lifecycle": "bessemer.jobs.lifecycle",
        "JobKind": "bessemer.jobs.kinds:JobKind",
        "JobRun": "bessemer.jobs.kinds:JobRun",
        "Job": "bessemer.jobs.kinds:Job",
        "Execution": "bessemer.jobs.execution:Execution",
        "JobRunner": "bessemer.jobs.runner:JobRunner",
        "Turns": "bessemer.jobs.queue:Turns",
    },
    "a plan": {
        "plans": "bessemer.http.api.plans",
        "workload": "bessemer_planner.workload",
        "catalog": "bessemer_planner.catalog",
        "make": "bessemer_planner.plan.make",
        "offers": "bessemer_planner.fleet.offers",
        "configurations": "bessemer_planner.fleet.configurations",
        "Performance": "bessemer_planner.performance:Performance",
        "demand": "bessemer_planner.fleet.demand",
        "choose": "bessemer_planner.fleet.choose",
        "milp": "bessemer_planner.fleet.milp",
        "verify": "bessemer_planner.fleet.verify",
        "ownership": "bessemer_planner.plan.ownership",
        "WhatIf": "bessemer_planner.plan.what_if:WhatIf",
        "encode": "bessemer_planner.plan.encode",
        "page": "bessemer_planner.report.page",
    },
}
"""What stands before the dot in each life."""


def owner(place: str) -> Any:
    module, _, name = place.partition(":")
    found = importlib.import_module(module)
    return getattr(found, name) if name else found


@pytest.mark.parametrize("life", LIVES)
def test_a_life_has_at_most_ten_lines_whose_hops_exist(life: str) -> None:
    section = PAGE.read_text().split(f"## The life of {life}\n")[1].split("\n## ")[0]
    section = section.replace("`bessemer.client.loop`", "")
    lines = re.split(r"^\d+\. ", section, flags=re.MULTILINE)[1:]
    assert len(lines) <= 10
    named = re.findall(r"`(\w+)\.(\w+)`", section)
    assert {before for before, _ in named} == set(LIVES[life])
    for before, name in named:
        known = owner(LIVES[life][before])
        assert name in {*dir(known), *getattr(known, "__dataclass_fields__", ())}, f"{before}.{name}"
    for line in lines:
        assert re.search(r"`\w+\.\w+`", line), f"no hop: {line}"
