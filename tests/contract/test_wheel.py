"""The wheels by themselves: what `pip install bessemer` brings answers requests and plans, without torch."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from planner.tests.test_distribution import PIP, lend, run
from tests.live import OFFLINE, Upstream

from bessemer.engine.extra import PACKAGES

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
CONFIG = """
[models.upstream]
provider = "openai"
base_url = "{base_url}"
[models.small]
provider = "local"
path = "small.gguf"
[routes.assistant]
targets = ["upstream"]
[routes.own]
targets = ["small"]
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment that holds both wheels and what they say that they need, no extra."""
    folder = tmp_path_factory.mktemp("bare")
    pip = (sys.executable, *PIP)
    for source in (ROOT / "planner", ROOT):
        run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source, cwd=folder)
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", *folder.glob("*.whl"), cwd=folder)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    for about in site.glob("bessemer*.dist-info/METADATA"):
        for line in re.findall(r"^Requires-Dist: (.*)$", about.read_text(), re.M):
            needed = Requirement(line)
            if not needed.name.startswith("bessemer") and "extra" not in str(needed.marker):
                lend_with_extras(needed, site)
    run(*pip, "--python", python, "check", cwd=folder)
    return folder


def lend_with_extras(needed: Requirement, site: Path) -> None:
    lend(needed.name, site)
    if needed.name == "uvicorn":  # uvicorn[standard]
        for name in ("uvloop", "httptools"):
            lend(name, site)


@pytest.fixture
def up(bare: Path, tmp_path: Path, upstream: Upstream) -> Iterator[tuple[str, str]]:
    """A running `bessemer up` of that environment: its URL and key."""
    (tmp_path / "bessemer.toml").write_text(CONFIG.format(base_url=upstream.fake.base_url))
    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    command = (bare / "venv" / "bin" / "bessemer", "up", "--data", tmp_path / "data", "--port", "0")
    environment = OFFLINE | {"PATH": os.environ["PATH"], "BESSEMER_CONFIG": str(tmp_path / "bessemer.toml")}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    assert process.stdout is not None
    found = re.search(r"http://\S+", process.stdout.readline())
    assert found is not None, (tmp_path / "log").read_text()
    yield found[0], (tmp_path / "data" / "admin.key").read_text().strip()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    process.stdout.close()
    assert "Traceback" not in (tmp_path / "log").read_text()


def ask(url: str, key: str, model: str) -> tuple[int, dict]:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello?"}]}).encode()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/chat/completions", body, headers)) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_it_answers_without_torch_and_says_what_local_models_need(bare: Path, up: tuple[str, str]) -> None:
    python = bare / "venv" / "bin" / "python"
    absent = f"import importlib.util as u; print([n for n in {PACKAGES} if u.find_spec(n)])"
    assert run(python, "-c", absent, cwd=bare) == "[]\n"
    status, answer = ask(*up, "assistant")
    assert status == 200, answer
    assert answer["choices"][0]["message"]["content"]
    status, answer = ask(*up, "own")
    assert (status, answer["error"]["code"]) == (502, "engine_not_installed")
    assert "pip install 'bessemer[local]'" in answer["error"]["message"]


def test_the_demo_says_what_it_needs(bare: Path) -> None:
    command = (bare / "venv" / "bin" / "bessemer", "demo")
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=bare)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "bessemer[local]" in done.stderr
