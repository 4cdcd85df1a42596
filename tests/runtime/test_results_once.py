"""What an evaluation measured is kept once; a job of an earlier release shows the result that it kept itself."""

from typing import Any

from tests.live import Server

from bessemer.core.datasets import Split
from bessemer.core.evaluations import Evaluation
from bessemer.core.types import JobStatus
from bessemer.store import evaluations, job_rows
from bessemer.store.database import Database
from bessemer.store.job_rows import JobRow


def test_results_come_from_the_evaluation_and_of_old_jobs_from_the_job(server: Server) -> None:
    database = Database.open_url(f"sqlite:///{server.data / 'bessemer.db'}")
    for name, result in (("eval-old", {"kept": "with the job"}), ("eval-new", None)):
        row = JobRow(id=name, kind="evaluation", request={}, status=JobStatus.SUCCEEDED, created_at=1.0, result=result)
        job_rows.insert(database, row)
        measured = Evaluation(
            id=name, dataset="ds", split=Split.HOLDOUT, metric="accuracy", created_at=2.0, rows=(), left_out=3
        )
        evaluations.insert(database, measured)
    database.close()
    client = server.openai()
    old: Any = client.get("/evaluations/eval-old", cast_to=object)
    new: Any = client.get("/evaluations/eval-new", cast_to=object)
    assert old["result"] == {"kept": "with the job"}
    assert (new["result"]["id"], new["result"]["left_out"]) == ("eval-new", 3)
    listed: Any = client.get("/evaluations", cast_to=object)
    shown = {row["id"]: row["result"] for row in listed["data"]}
    assert shown["eval-old"] == old["result"]
    assert shown["eval-new"] == new["result"]
