"""Adversarial lint: answers that deserve nothing, graded before training starts.

A grader that pays for an empty answer, an echo or every label at once will be paid for exactly that by reinforcement.
Each probe is graded on the same items as the honest reference answers, and reported when it earns a large part of what
they do.
"""

import random
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
    return {name: answer for name, answer in answers.items() if answer.strip() != reference.strip()}


_WHY: Mapping[str, str] = {
    "empty": "an empty answer is rewarded",
    "echo of the input": "repeating the input is rewarded",
    "keyword soup": "the right words in no order are rewarded",
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
    reference: Callable[[JSON], str],
    labels: Sequence[str] = (),
    tolerance: float = 0.5,
) -> tuple[Finding, ...]:
    """Grade every probe on every item; report those earning more than `tolerance` of the honest answers' reward.

    Also reported: honest answers that earn nothing or cannot be scored, where training could only go wrong.
    """
    honest_rewards = [r.reward for r in await grader.grade_many([(reference(item), item) for item in items])]
    honest = _mean(honest_rewards)
    best = max((reward for reward in honest_rewards if reward is not None), default=None)
    if honest is None or honest <= 0:
        what = "cannot be scored" if honest is None else "earn nothing"
        message = f"the reference answers {what}: the grader and the items do not fit"
        return (Finding(probe="honest answer", reward=honest, honest=honest, share_full=0.0, message=message),)
    by_probe: dict[str, list[tuple[str, JSON]]] = {}
    for item in items:
        for name, answer in probes(input_text(item), reference(item), labels).items():
            by_probe.setdefault(name, []).append((answer, item))
    findings: list[Finding] = []
    for name, pairs in by_probe.items():
        rewards = [result.reward for result in await grader.grade_many(pairs)]
        mean = _mean(rewards)
        full = sum(reward is not None and reward >= _FULL * (best or 0.0) for reward in rewards) / len(rewards)
        if mean is not None and mean > tolerance * honest:
            findings.append(Finding(probe=name, reward=mean, honest=honest, share_full=full, message=_WHY[name]))
    return tuple(findings)
