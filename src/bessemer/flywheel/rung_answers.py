"""What a rung says of many examples: opened once, asked in batches, without a request for each."""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Final

from bessemer.core.datasets import Example
from bessemer.core.models import ModelVersion
from bessemer.core.reply import Usage
from bessemer.engine.rungs import artefact
from bessemer.engine.rungs.head import Head
from bessemer.engine.rungs.items import item_of
from bessemer.engine.rungs.kinds import open_rung
from bessemer.engine.rungs.spans import Spans
from bessemer.evals.runs import SystemAnswer
from bessemer.flywheel.services import FlywheelServices
from bessemer.gateway.providers.choices import normalised
from bessemer.gateway.providers.rungs import LEAST_PROBABILITY
from bessemer.registry.config import RUNGS

_ROWS: Final = 512
"""Examples that are answered together; each is charged its share of the time."""


def answers(services: FlywheelServices, version: ModelVersion, examples: Sequence[Example]) -> Iterator[SystemAnswer]:
    """Yield the answers to examples in their order: what the provider would say, a score none where it hands over.

    Nothing of a head: its vectors have to be asked for.

    Raises EngineError for a damaged rung.
    """
    assert version.rung_sha256 is not None
    rung = open_rung(artefact.fetch(services.blobs.read, version.rung_sha256))
    if isinstance(rung, Head):
        return
    items = (item_of(one.input, one.messages) for one in examples)
    if isinstance(rung, Spans):
        for item in items:
            begun = time.perf_counter()
            found = rung.answered([item])[0]
            yield _answer(services, version, found.text, found.confidence, time.perf_counter() - begun)
        return
    begun = time.perf_counter()
    for said in rung.predict_all(items, _ROWS):
        outside = rung.outside(said).tolist()
        known = [
            normalised({label: math.log(max(p, LEAST_PROBABILITY)) for label, p in zip(rung.labels, row, strict=True)},
                       version.choice_bias)
            for row in said.probabilities.tolist()
        ]  # fmt: skip
        seconds = (time.perf_counter() - begun) / len(known)
        for shown, unread in zip(known, outside, strict=True):
            best, *others = sorted(shown.values(), reverse=True)
            score = best - others[0] if others and not unread else None
            yield _answer(services, version, max(shown, key=shown.__getitem__), score, seconds)
        begun = time.perf_counter()


def _answer(
    services: FlywheelServices, version: ModelVersion, text: str, score: float | None, seconds: float
) -> SystemAnswer:
    return SystemAnswer(
        text=text,
        version=version.id,
        cost_usd=services.catalog.cost(version.model, Usage(input_tokens=0, output_tokens=0), seconds),
        input_tokens=0,
        output_tokens=0,
        latency_s=seconds,
        provider=RUNGS,
        score=score,
        accepted=True,
        temperature=0.0,
    )
