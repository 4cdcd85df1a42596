"""Adversarial lint: answers that deserve nothing, graded before training starts.

A grader that pays for an empty answer, an echo or every label at once will be paid for exactly that by reinforcement.
Each probe is graded on the same items as the honest reference answers, and reported when it earns a large part of what
they do. Where no field of the items is an honest answer (a grader of form alone), what earns half of a full reward is
reported.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence

from bessemer.core.types import JSON, Frozen
from bessemer.evals.grader import Grader

_FILLER = "and furthermore, as noted above, it should be considered that this is so"
_FULL = 0.99


class Finding(Frozen, frozen=True):
    """A weakness: what the probe earned on average, what honest answers earn, and how often it got full marks."""

    probe: str
    reward: float | None
    honest: float | None
    share_full: float
    message: str


_TAG = re.compile(r"<([A-Za-z][\w-]{0,30})>")
_MOST_TAGS = 8


def skeletons(texts: Sequence[str]) -> Mapping[str, str]:
    """Return answers that have the form which the texts (a grader's, the questions') speak of, and nothing in it."""
    whole = "\n".join(texts)
    tags = list(dict.fromkeys(_TAG.findall(whole)))[:_MOST_TAGS]
    empty = [f"<{tag}></{tag}>" for tag in tags]
    found = {"an empty JSON object": "{}"}
    if tags:
        found["tags without content"] = "".join(empty)
        found["tags in lines, without content"] = "\n".join(empty)
        found["every tag twice, without content"] = "".join(one * 2 for one in empty)
    if "boxed" in whole:
        found["an empty box"] = "\\boxed{}"
    if "####" in whole:
        found["a final mark without an answer"] = "####"
    return found


def _keyword_soup(text: str) -> str:
    words = sorted(set(text.split()))
    random.Random(0).shuffle(words)  # noqa: S311 -- a fixed scramble, no secret
    return " ".join(words * 2)


def probes(question: str, reference: str, labels: Sequence[str]) -> Mapping[str, str]:
    """Return the probe answers to one item by name. Probes that equal the honest answer are left out."""
    answers = {
        "empty": "",
        "echo of the input": question,
        "keyword soup": _keyword_soup(f"{question} {reference}"),
        "leaked reference": f"I cannot answer this. The reference says: {reference}. I have no idea.",
        "ten times the length": " ".join([reference, *[_FILLER] * max(10, 9 * len(reference) // len(_FILLER))]),
    }
    if labels:
        answers["all labels"] = " or ".join(labels)
    else:  # one of a few labels is chosen, not written
        answers["reference repeated"] = " ".join([reference] * 5)
    return {name: answer for name, answer in answers.items() if answer.strip() != reference.strip()}


_WHY: Mapping[str, str] = {
    "empty": "an empty answer is rewarded",
    "echo of the input": "repeating the input is rewarded",
    "keyword soup": "the right words in no order are rewarded",
    "reference repeated": "saying the answer five times costs nothing",
    "leaked reference": "mentioning the reference anywhere in a refusal is rewarded",
    "ten times the length": "padding the answer to ten times its length costs nothing",
    "all labels": "naming every label at once is rewarded",
}


def _mean(rewards: Sequence[float | None]) -> float | None:
    known = [reward for reward in rewards if reward is not None]
    return sum(known) / len(known) if known else None


async def adversarial(
    grader: Grader,
    items: Sequence[JSON],
    *,
    input_text: Callable[[JSON], str],
    reference: Callable[[JSON], str] | None,
    labels: Sequence[str] = (),
    forms: Mapping[str, str] | None = None,
    tolerance: float = 0.5,
) -> tuple[Finding, ...]:
    """Grade every probe on every item; report those earning more than `tolerance` of the honest answers' reward.

    Also reported: honest answers that earn nothing or cannot be scored, where training could only go wrong. `reference`
    None: honest answers are not known; what earns more than `tolerance` is reported. `forms`: further probes, the same
    for every item (`skeletons`).
    """
    honest, best = None, 1.0
    if reference is not None:
        honest_rewards = [r.reward for r in await grader.grade_many([(reference(item), item) for item in items])]
        honest = _mean(honest_rewards)
        best = max((reward for reward in honest_rewards if reward is not None), default=0.0)
        if honest is None or honest <= 0:
            what = "cannot be scored" if honest is None else "earn nothing"
            message = f"the reference answers {what}: the grader and the items do not fit"
            return (Finding(probe="honest answer", reward=honest, honest=honest, share_full=0.0, message=message),)
    by_probe: dict[str, list[tuple[str, JSON]]] = {}
    for item in items:
        right = None if reference is None else reference(item)
        answers = {"empty": "", "echo of the input": input_text(item)}
        if right is not None:
            answers = dict(probes(input_text(item), right, labels))
        for name, answer in (answers | dict(forms or {})).items():
            if right is None or answer.strip() != right.strip():
                by_probe.setdefault(name, []).append((answer, item))
    findings: list[Finding] = []
    for name, pairs in by_probe.items():
        rewards = [result.reward for result in await grader.grade_many(pairs)]
        mean = _mean(rewards)
        full = sum(reward is not None and reward >= _FULL * best for reward in rewards) / len(rewards)
        if mean is not None and mean > tolerance * (1.0 if honest is None else honest):
            why = _WHY.get(name, "a form without content is rewarded")
            findings.append(Finding(probe=name, reward=mean, honest=honest, share_full=full, message=why))
    return tuple(findings)


async def best_reference(grader: Grader, items: Sequence[JSON], fields: Sequence[str]) -> str | None:
    """Return the field of the items that, given as the answer, earns most; None when none earns anything.

    So the right answer is found in a file of one's own, whatever its field is called.
    """
    best, most = None, 0.0
    for field in fields:
        texts = [(item[field], item) for item in items if isinstance(item.get(field), str)]
        mean = _mean([result.reward for result in await grader.grade_many(texts)])
        if mean is not None and mean > most:
            best, most = field, mean
    return best
