"""The loop in ten lines: ask, judge, collect, tune, evaluate, promote, cascade. Interrupted, run it again: it goes on.

bessemer up --config examples/bessemer.toml
BESSEMER_URL=http://127.0.0.1:8080 BESSEMER_API_KEY=... python examples/loop.py
"""

import os
from pathlib import Path

from bessemer.client import Client
from bessemer.client.loop import Loop, Question, Scoring

YES_NO = ("Yes", "No")
TICKETS = {
    **{f"Order {number} was charged twice and the customer is waiting.": "Yes" for number in range(200)},
    **{f"Please change the address of order {number} some time.": "No" for number in range(200)},
}
SPLITS = {"train": 0.5, "selection": 0.1, "calibration": 0.2, "holdout": 0.2}
VERDICTS = {"type": "feedback", "name": "verdicts", "labels": YES_NO}
METHOD = {"type": "reinforcement", "reinforcement": {"grader": VERDICTS, "hyperparameters": {"n_epochs": 3}}}

client = Client(os.environ["BESSEMER_URL"], os.environ["BESSEMER_API_KEY"])
folder = Path(os.environ.get("LOOP_FOLDER", "out/tickets"))  # what is done is remembered here
loop = Loop(client, "tickets", Scoring(labels=YES_NO), folder, tell=print)

# What an application does: it asks a route, and somebody says whether the answer was right.
answers = loop.ask(Question(ticket, {"ticket": ticket}) for ticket in TICKETS)
loop.judge(answers, lambda answer: [{"metric": "verdict", "value": answer.text == TICKETS[answer.question]}])

# What is made of it: a small model that learned from the verdicts, held against what serves now on held-out tickets.
dataset = loop.collect("urgency", splits=SPLITS)
tuned = loop.tune(dataset, "smollm2-135m", METHOD)
evaluation = loop.evaluate(dataset, tuned.version.id, "tickets")

# What passed becomes the champion, and the route asks it first: `bessemer routes rollback tickets` undoes it.
if evaluation.gate and evaluation.gate.passed:
    loop.promote(evaluation)
    cascade = loop.cascade(dataset, tuned.version.id, "large", alpha=0.05)
    print(f"{cascade.small} answers {cascade.accepted_share or 0:.0%} of the tickets, {cascade.large} the others")
else:
    print(f"The route stays as it is: {evaluation.gate and evaluation.gate.rule}")
