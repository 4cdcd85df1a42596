"""The loop, top to bottom: ask, say what was right, freeze a dataset, evaluate a smaller model, promote it.

bessemer up --config examples/bessemer.toml
BESSEMER_URL=http://127.0.0.1:8080 BESSEMER_API_KEY=... python examples/loop.py
"""

import os

import msgspec

from bessemer.client import Client, calls
from bessemer.core.evaluations import Evaluation
from bessemer.core.openai import ChatRequest, RequestExtension
from bessemer.core.types import Split
from bessemer.core.wire import DatasetRequest, EvaluationRequest, FeedbackRequest, PromoteBody, RouteBody

client = Client(os.environ["BESSEMER_URL"], os.environ["BESSEMER_API_KEY"])

TICKETS = {
    **{f"Order {number} was charged twice and the customer is waiting.": "Yes" for number in range(100)},
    **{f"Please change the address of order {number} some time.": "No" for number in range(100)},
}

# 1. An application asks a route; the structured input goes through the prompt of whatever answers. People say whether
#    the answer was right.
for ticket, right in TICKETS.items():
    request = ChatRequest(model="tickets", messages=[], bessemer=RequestExtension(input={"ticket": ticket}))
    answer = client.send(calls.chat(request))
    assert answer.bessemer is not None
    verdict = answer.choices[0].message.content == right
    inference = answer.bessemer.inference_id
    client.send(calls.give_feedback(FeedbackRequest(inference_id=inference, metric="verdict", value=verdict)))
    if not verdict:
        client.send(calls.give_feedback(FeedbackRequest(inference_id=inference, metric="demonstration", value=right)))

# 2. What was learned is frozen; an input is in one split alone.
splits = {Split.TRAIN: 0.3, Split.HOLDOUT: 0.7}
dataset = client.send(
    calls.create_dataset(DatasetRequest(name="tickets", route="tickets", prompt="urgency", splits=splits))
)
print(f"{dataset.id}: {dataset.counts}")

# 3. Both models answer the held-out tickets; the gate asks whether the small one is not worse. A job tells how it goes.
job = client.send(
    calls.EVALUATIONS.create(
        EvaluationRequest(
            dataset=dataset.id,
            systems=["tickets", "small"],
            labels=("Yes", "No"),
            candidate="small",
            reference="tickets",
            margin=0.05,
        )
    )
)
job = client.wait(calls.EVALUATIONS, job.id, lambda event: print(event.message))
evaluation = msgspec.convert(job.result, Evaluation)
for row in evaluation.rows:
    print(f"{row.name}: {row.score.value:.3f}" if row.score else f"{row.name}: unscorable")
assert evaluation.gate is not None
print(evaluation.gate.rule)

# 4. What passed becomes the champion, and the route asks the champion; `bessemer routes rollback tickets` undoes it.
if evaluation.gate.passed and evaluation.gate.candidate is not None:
    alias = client.send(calls.promote(evaluation.gate.candidate, PromoteBody(reason="passed its gate")))
    route = client.send(calls.put_route("tickets", RouteBody(targets=[f"{alias.model}:{alias.name}"])))
    print(f"{route.name} asks {route.targets[0].model}, which is {alias.version}")
