"""Adversarial lint finds graders that pay for nothing, and leaves sound ones alone."""

from typing import Any

import pytest

from bessemer.evals.graders import build
from bessemer.evals.lint import Finding, adversarial

ITEMS = [
    {"question": f"Are item {i} and item {i + 1} the same offer?", "label": "Yes" if i % 2 else "No", "answer": "Yes",
     "verdict": bool(i % 2)}
    for i in range(6)
]  # fmt: skip


async def findings(grader: dict[str, Any]) -> tuple[Finding, ...]:
    with build(grader) as built:
        return await adversarial(
            built,
            ITEMS,
            input_text=lambda item: item["question"],
            reference=lambda item: item["label"],
            labels=("Yes", "No"),
        )


def check(operation: str, reference: str = "{{item.label}}") -> dict[str, Any]:
    return {
        "type": "string_check",
        "name": "c",
        "input": "{{sample.output_text}}",
        "reference": reference,
        "operation": operation,
    }


async def test_sound_graders_have_no_findings() -> None:
    assert await findings(check("eq")) == ()
    found = {finding.probe for finding in await findings({"type": "feedback", "labels": ["Yes", "No"]})}
    assert found <= {"ten times the length"}


async def test_containment_is_gamed_by_every_stuffing() -> None:
    found = {finding.probe: finding for finding in await findings(check("ilike"))}
    assert {"all labels", "keyword soup", "leaked reference", "ten times the length"} <= set(found)
    assert found["all labels"].share_full == 1.0


@pytest.mark.parametrize(("operation", "reference"), [("like", ""), ("ne", "x")])
async def test_a_constant_reward_is_found(operation: str, reference: str) -> None:
    assert {"empty", "echo of the input"} <= {f.probe for f in await findings(check(operation, reference))}


async def test_a_grader_that_does_not_fit_the_items() -> None:
    (nothing,) = await findings(check("eq", "something else"))
    assert "earn nothing" in nothing.message
    (unscorable,) = await findings(check("eq", "{{item.missing}}"))
    assert "cannot be scored" in unscorable.message
