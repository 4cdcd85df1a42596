"""`bessemer-planner`: a workload to one JSON document and files; what is wrong has an exit code and the one shape."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

WORKLOAD: dict[str, Any] = {
    "name": "alone",
    "traffic": {"requests_per_month": 200_000, "prompt_tokens": {"mean": 500}, "output_tokens": {"mean": 100}},
    "models": [{"name": "llama-3.1-8b"}],
    "fleet": {"accelerators": ["h100_sxm"]},
}


def ask(*arguments: str, stdin: str = "") -> tuple[int, Any]:
    command = [sys.executable, "-m", "bessemer_planner", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def test_a_workload_on_standard_input_becomes_a_plan_and_files(tmp_path: Path) -> None:
    prices = tmp_path / "prices.csv"
    head = "instance,term,region,usd_per_hour,date,source\n"
    prices.write_text(head + "p5.4xlarge,on_demand,us-east-1,0.5,2030-01-01,a test\n")
    out = tmp_path / "out"
    code, plan = ask("plan", "-", "--prices", str(prices), "--out", str(out), stdin=json.dumps(WORKLOAD))
    assert (code, plan["schema"]) == (0, "bessemer.plan/1")
    assert [(one["instance"], one["usd_per_hour"]) for one in plan["fleet"]["purchases"]] == [("p5.4xlarge", 0.5)]
    assert json.loads(out.joinpath("plan.json").read_text()) == plan
    assert out.joinpath("report.html").read_text().startswith("<!doctype html>")


def test_check_gives_every_claim_a_verdict() -> None:
    code, claims = ask("check")
    assert code == 0
    assert [claim["number"] for claim in claims] == [f"C{number}" for number in range(1, 12)]
    assert {claim["verdict"] for claim in claims} <= {"holds", "holds if", "fails"}


@pytest.mark.parametrize(
    ("stdin", "code", "param"),
    [
        ('{"surprise": 1}', "invalid_configuration", "surprise"),
        ("[]", "invalid_configuration", "workload"),
        (json.dumps(WORKLOAD | {"limits": {"tpot_s": 1e-6}}), "infeasible", "limits"),
    ],
)
def test_what_cannot_be_planned_is_an_error_in_the_one_shape(stdin: str, code: str, param: str) -> None:
    status, body = ask("plan", "-", stdin=stdin)
    assert (status, set(body)) == (2, {"error"})
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert (body["error"]["code"], body["error"]["param"]) == (code, param)


def test_files_that_cannot_be_read_or_written_are_named(tmp_path: Path) -> None:
    status, body = ask("plan", str(tmp_path / "none.toml"))
    assert status == 2
    assert "none.toml" in body["error"]["message"]
    bad = tmp_path / "bad.csv"
    bad.write_bytes(b"\xff")
    status, body = ask("plan", "-", "--prices", str(bad))
    assert status == 2
    assert "bad.csv" in body["error"]["message"]
