"""A grader in Python: checked, tried on two answers, ready to be the `grader` of a job or of an evaluation.

BESSEMER_URL=http://127.0.0.1:8080 BESSEMER_API_KEY=... python examples/grader.py
"""

import os

from bessemer.client import Client, calls
from bessemer.core.wire import GraderBody, GraderRunBody

client = Client(os.environ["BESSEMER_URL"], os.environ["BESSEMER_API_KEY"])

# The source runs in a sandbox on the server; it raises plain Python where an answer cannot be graded.
SOURCE = """
def grade(sample, item):
    said = float(sample["output_text"].replace(",", ""))
    return 1.0 if abs(said - item["total"]) < 0.01 else 0.0
"""
GRADER = {"type": "python", "name": "total", "source": SOURCE}

client.send(calls.validate_grader(GraderBody(grader=GRADER)))
for answer in ("1,240.50", "1240", "I cannot tell"):
    result = client.send(calls.run_grader(GraderRunBody(grader=GRADER, model_sample=answer, item={"total": 1240.5})))
    failed = [name for name, happened in result["metadata"]["errors"].items() if happened is True]
    print(f"{answer!r}: {result['reward']}" + (f" ({', '.join(failed)})" if failed else ""))
