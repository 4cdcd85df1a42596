"""A route's ladder from a file of rows: rungs fitted, scored beside the incumbent, gated, promoted, put into force."""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.engine.tiny_encoder import tiny_encoder
from tests.http.test_imported_dataset import CONFIG, bessemer, ended
from tests.live import OFFLINE, Server, Upstream, start_server, stop_server

from bessemer.engine.rungs.kinds import load
from bessemer.engine.rungs.rung import RungItem
from lab.fake_openai import Script

KINDS = {
    "lost": "my card is lost, says {} from {}",
    "pin": "please change the code of {} in {}",
    "topup": "add some money for {} near {}",
}
NAMES = ("Anna", "Bert", "Carl", "Dora", "Emil", "Fritz", "Gerda", "Hans", "Ida", "Jan", "Karl", "Lena", "Mona", "Nils")
CITIES = ("Aachen", "Bonn", "Celle", "Dresden", "Essen", "Fulda", "Gera", "Hamm", "Jena", "Kiel", "Lindau", "Mainz")
PEOPLE = random.Random(7).sample([(name, city) for name in NAMES for city in CITIES], 168)
ITEMS = {"train": 40, "selection": 40, "calibration": 40, "holdout": 40}


def row(split: str, number: int) -> dict[str, Any]:
    label = list(KINDS)[number % 3]
    text = KINDS[label].format(*PEOPLE[number * 4 + list(ITEMS).index(split)])
    asked = [{"role": "user", "content": text}, {"role": "assistant", "content": label}]
    return {"messages": asked, "split": split}


@pytest.fixture
def server(tmp_path: Path, upstream: Upstream) -> Iterator[Server]:
    """A server with its worker; the upstream says `lost` to everything."""
    upstream.scripts.waiting.extend([Script(pieces=("lost",))] * 2000)
    folder = tmp_path / "encoder"
    folder.mkdir()
    encoder = tiny_encoder(folder)
    running = start_server(tmp_path, upstream, env=OFFLINE | {"BESSEMER_EMBEDDING_MODEL": str(encoder)}, toml=CONFIG)
    yield running
    upstream.scripts.waiting.clear()
    stop_server(running)


@pytest.mark.long
def test_a_ladder_ends_in_the_rung_that_beats_the_incumbent_and_serves_without_torch(
    server: Server, tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [row(split, number) for split, count in ITEMS.items() for number in range(count)]
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    done = bessemer(server, "dataset", "import", str(file), "--name", "rows", "--json")
    dataset = json.loads(done.stdout)["detail"]["id"]

    told = bessemer(server, "ladder", "matching", "--dataset", dataset, "--alpha", "0.2", "--json")
    assert told.returncode == 0, told.stderr
    result = json.loads(told.stdout)["rows"][0]["result"]
    found = {one["kind"]: one for one in result["rungs"]}
    assert found["linear"]["quality"]["value"] > 0.95
    assert found["incumbent"]["quality"]["value"] < 0.5
    assert found["pairs"]["skipped"], "there are no pairs of records"
    assert found["encoder"]["quality"]["value"] > 0.9, "its n-grams alone say so"
    assert "no local language model" in found["states"]["skipped"]
    assert result["best_single"] == found["linear"]["version"]
    assert found["committee"]["skipped"].startswith("no better than"), "linear alone makes no mistake"
    assert result["applied"], result["summary"]
    assert result["shares"][0] > 0.9

    # L1: a line for each kind, with what became of it.
    table = bessemer(server, "ladders", "show", json.loads(told.stdout)["rows"][0]["id"]).stdout
    for kind, note in (
        ("majority", "baseline"),
        ("linear", "kept"),
        ("pairs", "skipped"),
        ("incumbent", "answers the rest"),
    ):
        assert any(kind in block and note in block for block in table.split("\n\n")), table

    client = server.openai()
    asked = {"model": "matching", "messages": [{"role": "user", "content": "my card is lost since Monday"}]}
    answer: Any = client.chat.completions.create(**asked)
    assert answer.choices[0].message.content == "lost"
    lines: Any = client.get(f"/versions/{found['rules']['version']}", cast_to=object)
    assert any(line.startswith("if has ") for line in lines["lineage"]["hyperparameters"]["told"]), lines
    assert answer.model_extra["bessemer"]["guarantee"] == "holds"
    shown: Any = client.get("/routes/matching/monitor", cast_to=object)
    assert [one["action"] for one in shown["rungs"]] == ["none"] * (len(result["steps"]) - 1)
    assert 0 < shown["monitor"]["alpha"] < 1
    assert shown["guarantee_void"] is None
    version = result["best_single"]
    tar = tmp_path / "rung.tar"
    assert bessemer(server, "versions", "export", version, "--to", str(tar)).returncode == 0
    shutil.unpack_archive(tar, tmp_path / "rung")
    rung = load(tmp_path / "rung")
    said = rung.predict([RungItem("my card is lost since Monday")])
    assert rung.labels[rung.answers(said)[0]] == "lost", "an exported rung answers alike"
    gate = {"dataset": dataset, "labels": list(KINDS), "systems": [version, "large"]}
    evaluation = ended(client, "/evaluations", gate | {"candidate": version, "reference": "large"})
    assert evaluation["result"]["gate"]["passed"], evaluation["result"]["gate"]
    promoted: Any = client.post(f"/versions/{version}/promote", body={}, cast_to=object)
    assert promoted["version"] == version
    assert result["handed_over"] == {"n": 0, "share": 0.0, "quality": None, "models": []} | {
        "usd_per_1k": result["handed_over"]["usd_per_1k"]
    }

    # Two examples more: the rung goes on from where it is, a version of its own with the earlier one as base.
    more = [row("train", number) for number in range(ITEMS["train"], ITEMS["train"] + 2)]
    file.write_text("".join(json.dumps(one) + "\n" for one in [*rows, *more]))
    done = bessemer(server, "dataset", "import", str(file), "--name", "more", "--json")
    grown = json.loads(done.stdout)["detail"]["id"]
    asks = ("--dataset", grown, "--incumbent", "large", "--alpha", "0.2", "--rung", "linear", "--no-activate")
    for flags, base in ((("--refit",), version), ((), "rung:linear")):
        told = bessemer(server, "ladder", "matching", *asks, *flags, "--json")
        assert told.returncode == 0, told.stderr
        made = {one["kind"]: one for one in json.loads(told.stdout)["rows"][0]["result"]["rungs"]}["linear"]
        assert made["version"] != version
        assert made["quality"]["value"] > 0.95
        lineage: Any = client.get(f"/versions/{made['version']}", cast_to=object)
        assert lineage["lineage"]["base"] == base

    # A language model that adds nothing is asked the selection items alone, is no part of the path, costs no look.
    joins = ("--dataset", dataset, "--alpha", "0.2", "--rung", "majority", "--model", version, "--model", "mini")
    before, asked = client.get("/routes/matching", cast_to=object), len(server.upstream.fake.bodies)
    told = bessemer(server, "ladder", "matching", "--incumbent", "large", *joins, "--json")
    assert told.returncode == 0, told.stderr
    again = json.loads(told.stdout)["rows"][0]["result"]
    (worth,) = again["handed_over"]["models"]
    assert (worth["model"], worth["pays"]) == ("mini", False)
    rows = {one["kind"]: one for one in again["rungs"]}
    assert rows["model"]["skipped"] == worth["reason"]
    assert rows["linear"]["version"] == version, "a rung of an earlier ladder has the kind that it was fitted as"
    assert not again["applied"]
    assert (again["look"], again["delta_spent"], again["steps"]) == (0, 0.0, [])
    assert client.get("/routes/matching", cast_to=object) == before
    assert len(server.upstream.fake.bodies) - asked <= 2 * ITEMS["selection"]
    shown = bessemer(server, "ladders", "list", "--json")
    assert json.loads(shown.stdout)["rows"][0]["status"] == "succeeded"


def offer(split: str, number: int) -> dict[str, Any]:
    """A title and its fields; the upstream always says the same."""
    name, city = PEOPLE[number * 4 + list(ITEMS).index(split)]
    fields = {"Brand": name, "Place": city, "Size": f"{number} cm"}
    asked = [{"role": "user", "content": f"{name} chair {number} cm, made in {city}"}]
    return {"messages": [*asked, {"role": "assistant", "content": json.dumps(fields)}], "split": split}


@pytest.mark.long
def test_a_ladder_for_json_objects_ends_in_spans(server: Server, upstream: Upstream, tmp_path: Path) -> None:
    upstream.scripts.waiting.clear()
    upstream.scripts.waiting.extend([Script(pieces=('{"Brand": "Anna", "Place": "Bonn"}',))] * 2000)
    file = tmp_path / "offers.jsonl"
    rows = [offer(split, number) for split, count in ITEMS.items() for number in range(count)]
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    done = bessemer(server, "dataset", "import", str(file), "--name", "offers", "--json")
    dataset = json.loads(done.stdout)["detail"]["id"]
    asked = ["ladder", "matching", "--dataset", dataset, "--metric", "attributes", "--alpha", "0.2", "--json"]
    told = bessemer(server, *asked, "--attributes", "3")
    assert told.returncode == 0, told.stderr
    result = json.loads(told.stdout)["rows"][0]["result"]
    found = {one["kind"]: one for one in result["rungs"]}
    assert set(found) == {"spans", "incumbent"}
    assert found["spans"]["quality"]["value"] > 0.9 > 0.5 > found["incumbent"]["quality"]["value"]
    assert result["best_single"] == found["spans"]["version"]
    assert result["applied"] and result["shares"][0] > 0.5, result["summary"]
    answer: Any = server.openai().chat.completions.create(
        model="matching", messages=[{"role": "user", "content": "Emil chair 7 cm, made in Kiel"}]
    )
    assert json.loads(answer.choices[0].message.content) == {"Brand": "Emil", "Place": "Kiel", "Size": "7 cm"}


def test_a_ladder_without_an_incumbent_is_refused_by_name(server: Server) -> None:
    done = bessemer(server, "ladder", "nothing", "--dataset", "ds-1")
    assert done.returncode == 2
    assert "incumbent" in done.stderr


@pytest.mark.long
def test_l24_without_evidence_the_route_stays_and_the_command_says_why(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    counts = ITEMS | {"calibration": 3}
    rows = [row(split, number) for split, count in counts.items() for number in range(count)]
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    done = bessemer(server, "dataset", "import", str(file), "--name", "rows", "--json")
    dataset = json.loads(done.stdout)["detail"]["id"]
    client = server.openai()
    before: Any = client.get("/routes/matching", cast_to=object)
    told = bessemer(server, "ladder", "matching", "--dataset", dataset, "--rung", "linear", "--incumbent", "matching")
    assert told.returncode == 0, told.stderr
    assert "stays as it is" in told.stdout
    assert "nothing is certified" in told.stdout
    assert client.get("/routes/matching", cast_to=object) == before
