"""The application's side of one turn against the real server, on a tiny random model."""

from tests.e2e.test_one_turn import CONFIG, GRADER
from tests.gateway.tiny import tiny_model

from bessemer.cli.demo.progress import ProgressLine
from bessemer.cli.demo.server import Server
from bessemer.client import Client, calls
from bessemer.client.loop import Question, Scoring
from lab.turn import CascadePlan, Final, JobPlan, Turn, TurnPlan

SHARES = ("train",) * 5 + ("selection",) * 2 + ("calibration",) * 2 + ("holdout",)


def question(index: int) -> Question:
    text = {"left": f"m{index}", "right": f"{'yy' if index % 3 == 0 else 'nn'}{index}"}
    return Question(id=str(index), input=text, split=SHARES[index % len(SHARES)])


def right(item: Question) -> str:
    return "Yes" if int(item.id) % 3 == 0 else "No"


def plan(questions: tuple[Question, ...]) -> TurnPlan:
    hyperparameters = {"n_epochs": 30, "batch_size": 4}
    method = {"type": "reinforcement", "reinforcement": {"grader": GRADER, "hyperparameters": hyperparameters}}
    return TurnPlan(
        name="turn",
        seed=0,
        route="matching",
        model="tiny",
        prompt="same",
        questions=questions,
        jobs=(JobPlan(name="reinforcement", method=method, metadata={"bessemer.metric": "f1"}),),
        scoring=Scoring(metric="f1", labels=("Yes", "No"), positive="Yes"),
        gate_reference="matching",
        gate_margin=0.9,
        cascade=CascadePlan(large="large", rule="error", alpha=0.5, delta=0.4),
        finals=(Final(name="tuned", target="{tuned}", questions=questions[:5]),),
        evaluated=("matching",),
    )


def test_what_is_served_in_the_end_is_what_the_job_made_not_a_checkpoint_on_the_way(tmp_path):
    (tmp_path / "bessemer.toml").write_text(CONFIG.format(path=tiny_model(tmp_path / "tiny")))
    questions = tuple(question(index) for index in range(100))

    def verdict(asked, answer):
        return [{"metric": "verdict", "value": answer.text == right(asked)}]

    with Server(tmp_path / "data", tmp_path / "bessemer.toml") as server, ProgressLine(live=False) as progress:
        client = Client(server.url, server.key)
        outcome = Turn(plan(questions), verdict, client, tmp_path, progress).run()
        versions = client.send(calls.list_versions()).data
        again = Turn(plan(questions), verdict, client, tmp_path, progress).run()
    assert again == outcome, "what is done is not done again"
    job = outcome.jobs["reinforcement"].job
    of_job = [version.id for version in versions if version.lineage and version.lineage.job_id == job.id]
    assert len(of_job) > 1, "the run must leave checkpoints for this test to tell them apart"
    assert outcome.versions["tuned"].rpartition("@")[2] == (job.fine_tuned_model or "").rpartition(":")[2]
    assert {answer.version for answer in outcome.finals["tuned"]} == {outcome.versions["tuned"]}
    assert outcome.evaluation.rows[-1].version == outcome.versions["tuned"]
