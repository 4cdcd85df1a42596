"""The distribution by itself: what `pip install ./planner` brings is enough, and nothing of Bessemer is in it."""

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.long
PLANNER = Path(__file__).parents[1]
PLANS = PLANNER.parent / "plans"
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def lend(name: str, site: Path) -> None:
    """Put a distribution of this environment, and those that it needs, into another one, as links."""
    found = importlib.metadata.distribution(name)
    for top in {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}:
        if not (site / top).exists():
            (site / top).symlink_to(Path(str(found.locate_file(top))))
    for line in found.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            lend(requirement.name, site)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment that holds the planner's wheel and what it says that it needs."""
    folder = tmp_path_factory.mktemp("alone")
    pip = (sys.executable, *PIP)
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, PLANNER, cwd=folder)
    (wheel,) = folder.glob("bessemer_planner-*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (about,) = site.glob("bessemer_planner-*.dist-info/METADATA")
    for line in re.findall(r"^Requires-Dist: (.*)$", about.read_text(), re.M):
        lend(Requirement(line).name, site)
    run(*pip, "--python", python, "check", cwd=folder)
    return folder


def test_it_plans_where_neither_torch_nor_bessemer_is_installed(alone: Path) -> None:
    bin_ = alone / "venv" / "bin"
    absent = (
        "import importlib.util as u; print([n for n in ('bessemer', 'torch', 'starlette', 'typer') if u.find_spec(n)])"
    )
    assert run(bin_ / "python", "-c", absent, cwd=alone) == "[]\n"
    plan = json.loads(run(bin_ / "bessemer-planner", "plan", PLANS / "pilots.toml", "--out", "out", cwd=alone))
    assert plan["recommendation"]
    assert (alone / "out" / "report.html").is_file()


def test_every_module_can_be_imported_alone(alone: Path) -> None:
    walk = (
        "import importlib, pkgutil, bessemer_planner as p; "
        "print(len([importlib.import_module(m.name) for m in pkgutil.walk_packages(p.__path__, 'bessemer_planner.')]))"
    )
    assert int(run(alone / "venv" / "bin" / "python", "-c", walk, cwd=alone)) > 50
