"""The loop in ten lines: ask, judge, collect, ladder, tune. Interrupted, run it again: it goes on.

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

# What is made of it: rungs that are no language models, fitted in seconds and joined with what answers now into the
# cheapest route that loses at most five points, with a promise. `bessemer routes rollback tickets` undoes it.
dataset = loop.collect("urgency", splits=SPLITS)
ladder = loop.ladder(dataset, alpha=0.05)

# A small language model learns from the verdicts only if it may pay for what the rungs hand over.
if ladder.may_pay:
    tuned = loop.tune(dataset, "smollm2-135m", METHOD)
    ladder = loop.ladder(dataset, models=[tuned.version.id], alpha=0.05, step="ladder with it")
print(ladder.summary)
