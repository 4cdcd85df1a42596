"""`bessemer plan`: a workload to files, JSON and exit codes; traffic measured from a trace and from the server."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_cli import Run, check_refused, command, run
from tests.live import Server

__all__ = ["run"]

WORKLOAD = """
name = "pilot"
[traffic]
requests_per_month = 300_000
prompt_tokens = { mean = 500, p95 = 1200 }
output_tokens = { mean = 100, p95 = 250 }
[[models]]
name = "llama-3.1-8b"
[fleet]
accelerators = ["h100_sxm"]
"""


@pytest.fixture
def workload(tmp_path: Path) -> Path:
    path = tmp_path / "pilot.toml"
    path.write_text(WORKLOAD)
    return path


def test_a_workload_becomes_a_plan_a_page_and_a_table(workload: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = command("plan", str(workload), "--out", str(out))
    assert (done.returncode, done.stderr) == (0, "")
    assert "llama-3.1-8b on h100_sxm" in done.stdout
    assert "Public cloud" in done.stdout
    plan = json.loads(out.joinpath("plan.json").read_text())
    assert plan["schema"] == "bessemer.plan/1"
    page = out.joinpath("report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert not re.findall(r"<script|<link|(?:src|href)=", page)


def test_json_is_one_document_with_or_without_the_verb(workload: Path, tmp_path: Path) -> None:
    plans: list[dict[str, Any]] = []
    for arguments in (("plan", str(workload), "--json"), ("plan", "run", str(workload), "--json")):
        done = command(*arguments, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        plans.append(json.loads(done.stdout))
    assert plans[0]["recommendation"] == plans[1]["recommendation"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (WORKLOAD + "shar = 1\n", "fleet.shar is not a field"),
        (WORKLOAD.replace("300_000", "-1"), "traffic.requests_per_month"),
        (WORKLOAD.replace("llama-3.1-8b", "llama-9-9b"), "known models close to it"),
        (WORKLOAD.replace("h100_sxm", "h1000"), "fleet.accelerators"),
        (WORKLOAD + "[limits]\ntpot_s = 0.00001\n", "even alone"),
        (WORKLOAD + "[money]\nbudget_per_month = 5\n", "the cheapest fleet costs"),
        ("name = [", "not valid TOML"),
    ],
)
def test_a_wrong_or_impossible_workload_is_one_line_and_exit_code_2(workload: Path, text: str, words: str) -> None:
    workload.write_text(text)
    assert words in check_refused(command("plan", str(workload)))


def test_other_wrong_commands_are_refused(workload: Path, tmp_path: Path) -> None:
    assert "no-such.toml" in check_refused(command("plan", "no-such.toml"))
    assert "trace" in check_refused(command("plan", str(workload), "--trace", str(tmp_path / "none.csv")))
    assert "No such file" in check_refused(command("plan", "evaluate", str(tmp_path / "none.csv")))
    error = json.loads(check_refused(command("plan", "no-such.toml", "--json")))
    assert error["kind"] == "invalid"


def test_a_trace_gives_the_lengths(workload: Path, tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{i},{100 + i},{10}\n" for i in range(50)))
    done = command("plan", str(workload), "--trace", str(trace), "--dry-run")
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["traffic"]["prompt_tokens"]["mean"] == 124.5
    assert measured["traffic"]["requests_per_month"] == 300_000
    assert "50 recorded requests" in measured["description"]


def test_recorded_traffic_gives_the_lengths(server: Server, run: Run, workload: Path) -> None:
    client = server.openai()
    for word in ("one", "two", "three"):
        client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": word}])
    rows: list[Any] = []
    for _ in range(50):
        rows = json.loads(run("plan", str(workload), "--from-traffic", "assistant", "--dry-run").stdout or "{}")
        if rows:
            break
    assert rows["traffic"]["output_tokens"]["quantiles"]
    assert "recorded requests" in rows["description"]
    assert "nothing-here" in check_refused(run("plan", str(workload), "--from-traffic", "nothing-here"))


def test_new_writes_a_workload_that_can_be_planned(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    flags = ("--model", "llama-3.1-70b", "--small", "qwen3-8b", "--requests", "5000000", "--budget", "90000",
             "--region", "eu-", "--owner", "cloud", "--lead", "3", "--batch", "0.2")  # fmt: skip
    done = command("plan", "new", str(path), *flags, "--json")
    assert json.loads(done.stdout)["target"] == str(path)
    shown = json.loads(command("plan", str(path), "--dry-run").stdout)
    assert shown["cascade"] == {"small": "qwen3-8b", "large": "llama-3.1-70b", "escalated": 0.2}
    assert shown["money"]["budget_per_month"] == 90000
    assert shown["sovereignty"]["regions"] == ["eu-"]
    assert shown["time"]["lead_time_months"] == 3
    assert "--force" in check_refused(command("plan", "new", str(path)))
    assert command("plan", "new", str(path), "--force").returncode == 0


def test_refresh_can_be_tried_dry_and_its_prices_are_used(tmp_path: Path, workload: Path) -> None:
    data = tmp_path / "data"
    done = command("--data", str(data), "plan", "refresh", "--dry-run", "--json")
    assert all(url.startswith("https://") for url in json.loads(done.stdout)["detail"])
    data.mkdir()
    head = "instance,term,region,usd_per_hour,date,source\n"
    data.joinpath("prices.csv").write_text(head + "p5.4xlarge,on_demand,us-east-1,0.5,2030-01-01,a test\n")
    plan = json.loads(command("--data", str(data), "plan", str(workload), "--json").stdout)
    assert [(one["instance"], one["usd_per_hour"]) for one in plan["fleet"]["purchases"]] == [("p5.4xlarge", 0.5)]


def test_check_prints_every_claim_with_a_verdict() -> None:
    done = command("plan", "check", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(done.stdout)["rows"]
    assert [row["number"] for row in rows][:10] == [f"C{number}" for number in range(1, 11)]
    assert {row["verdict"] for row in rows} <= {"holds", "holds if", "fails"}


def test_evaluate_reads_a_file_of_measurements(tmp_path: Path) -> None:
    shared = Path(__file__).parents[2].parent / "shared" / "data" / "planner" / "measured_ttft_tpot.csv"
    if not shared.is_file():
        pytest.skip("the shared data folder is not there")
    lines = shared.read_text().splitlines(keepends=True)
    path = tmp_path / "some.csv"
    path.write_text("".join([lines[0], *[line for line in lines if "Llama-3.1-8B" in line][:40]]))
    found = json.loads(command("plan", "evaluate", str(path), "--json").stdout)
    assert found["rows"] > 0
    assert found["tpot_mape"] > 0
