"""Adversarial lint finds graders that pay for nothing, and leaves sound ones alone."""

from typing import Any

import pytest

from bessemer.evals.fields import fields_read
from bessemer.evals.graders import build
from bessemer.evals.lint import Finding, adversarial, best_reference, skeletons

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


FORMAT = {
    "type": "python",
    "name": "format",
    "source": "import re\n"
    "def grade(sample, item):\n"
    "    return 1.0 if re.match(r'^<think>.*</think>\\s*<answer>.*</answer>$', sample['output_text'], re.S) else 0.0\n",
}


async def test_where_no_answer_is_known_form_without_content_is_still_found() -> None:
    with build(FORMAT) as built:
        found = await adversarial(
            built, ITEMS, input_text=lambda item: item["question"], reference=None, forms=skeletons([FORMAT["source"]])
        )
    assert {"tags without content", "every tag twice, without content"} <= {finding.probe for finding in found}
    assert all(finding.honest is None for finding in found)
    with build(check("eq")) as built:
        assert await adversarial(built, ITEMS, input_text=lambda item: "", reference=None, forms=skeletons([])) == ()


async def test_the_right_answer_is_found_whatever_its_field_is_called() -> None:
    items = [{"breed": name, "place": "park"} for name in ("poodle", "beagle", "boxer")]
    with build(check("eq", "{{item.breed}}")) as built:
        assert await best_reference(built, items, ("place", "breed", "gone")) == "breed"
        assert await best_reference(built, items, ("place",)) is None


@pytest.mark.parametrize(
    ("grader", "fields"),
    [
        (check("eq", "{{ item.a }} {{item.b.c}}"), ("a", "b")),
        ({"type": "python", "source": "def grade(sample, item):\n return item['a'] == item.get(\"b\")"}, ("a", "b")),
        ({"type": "lambda", "source": "m['metadata']['reference_answer']"}, ("reference_answer",)),
        ({"type": "multi", "graders": {"x": {"type": "feedback"}}}, ("answer", "verdict", "demonstration")),
        ({"type": "attributes"}, ("target",)),
    ],
)
def test_the_fields_that_a_grader_reads(grader: dict[str, Any], fields: tuple[str, ...]) -> None:
    assert fields_read(grader) == fields
