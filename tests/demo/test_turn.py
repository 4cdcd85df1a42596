"""The application's side of one turn against the real server, on a tiny random model."""

import asyncio

from tests.e2e.test_one_turn import CONFIG, GRADER
from tests.gateway.tiny import tiny_model

from bessemer.cli.demo.application import Application, Question, Server
from bessemer.cli.demo.progress import ProgressLine
from bessemer.cli.demo.turn import Final, JobPlan, Turn, TurnPlan
from bessemer.client import calls

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
        metric={"metric": "f1", "labels": ["Yes", "No"], "positive": "Yes"},
        gate_reference="matching",
        gate_margin=0.9,
        cascade={"large": "large", "rule": "error", "alpha": 0.5, "delta": 0.4, "score": "choice_margin"},
        finals=(Final(name="tuned", target="{tuned}", questions=questions[:5]),),
        evaluated=("matching",),
    )


def test_what_is_served_in_the_end_is_what_the_job_made_not_a_checkpoint_on_the_way(tmp_path):
    (tmp_path / "bessemer.toml").write_text(CONFIG.format(path=tiny_model(tmp_path / "tiny")))
    questions = tuple(question(index) for index in range(100))

    def verdict(asked, answer):
        return [{"metric": "verdict", "value": answer.text == right(asked)}]

    async def turn(server: Server):
        application = Application(server.url, server.key)
        try:
            with ProgressLine(live=False) as progress:
                outcome = await Turn(plan(questions), verdict, application, tmp_path, progress).run()
            return outcome, (await application.send(calls.list_versions())).data
        finally:
            await application.close()

    with Server(tmp_path / "data", tmp_path / "bessemer.toml") as server:
        outcome, versions = asyncio.run(turn(server))
    job = outcome.jobs["reinforcement"]
    of_job = [version.id for version in versions if version.lineage and version.lineage.job_id == job["id"]]
    assert len(of_job) > 1, "the run must leave checkpoints for this test to tell them apart"
    assert outcome.versions["tuned"].rpartition("@")[2] == job["fine_tuned_model"].rpartition(":")[2]
    assert {answer.version for answer in outcome.finals["tuned"]} == {outcome.versions["tuned"]}
    assert outcome.evaluation["rows"][-1]["version"] == outcome.versions["tuned"]
