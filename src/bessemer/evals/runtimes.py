"""What starts a grader's process, and inside which walls: this machine's kernel itself, or a program made for that.

Another runtime (gVisor, a container engine) is one more class here with a line in `choices`.
"""

import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

from bessemer.evals.fence.frames import SCRATCH_PATH
from bessemer.evals.grader import RuntimeName

_FENCE = Path(__file__).parent / "fence"


class Runtime(Protocol):
    """A way to start the process of `fence`."""

    @property
    def name(self) -> Literal["native", "bubblewrap"]:
        """Its name in the setting and in what is told of the fence."""

    @property
    def encloses(self) -> bool:
        """Whether the process starts inside namespaces and a root of its own, with /proc, in a scratch folder.

        Where it does not, the process builds these by itself as far as it can. It sees to everything else in any case.
        """

    def command(self, disk_mb: int) -> Sequence[str]:
        """Return the command line that starts it; it talks on standard input and output."""


class Native:
    """Namespaces made by the process itself, which needs nothing installed."""

    name: Literal["native"] = "native"
    encloses = False

    def command(self, disk_mb: int) -> Sequence[str]:  # noqa: ARG002 -- the process mounts its scratch folder itself
        """Start Python alone."""
        return [sys.executable, "-I", str(_FENCE)]


class Bessemer(Native):
    """The same walls around Bessemer's own graders, which are imported before these close."""

    def command(self, disk_mb: int) -> Sequence[str]:  # noqa: ARG002 -- the process mounts its scratch folder itself
        """Start Python with the graders."""
        source = Path(__file__).parents[2]
        begin = f"import sys; sys.path.insert(0, {str(source)!r}); import bessemer.evals.graders"
        return [sys.executable, "-I", "-c", f"{begin}; from bessemer.evals.fence.keeper import main; sys.exit(main())"]


class Bubblewrap:
    """`bwrap`: the way in where it is installed set-user-ID and accounts may not make namespaces by themselves."""

    name: Literal["bubblewrap"] = "bubblewrap"
    encloses = True

    def __init__(self, program: str) -> None:
        self._program = program

    def command(self, disk_mb: int) -> Sequence[str]:
        """Start Python in a root of read-only pieces, with its scratch folder in memory."""
        places = [argument for path in [*readable(), str(_FENCE)] for argument in ("--ro-bind-try", path, path)]
        devices = ("null", "zero", "random", "urandom")
        places += [argument for name in devices for argument in ("--dev-bind-try", f"/dev/{name}", f"/dev/{name}")]
        return [
            self._program,
            *("--unshare-all", "--die-with-parent", "--new-session", "--hostname", "grader"),
            *("--cap-drop", "ALL", "--uid", "65534", "--gid", "65534"),
            *places,
            *("--proc", "/proc", "--size", str(disk_mb << 20), "--tmpfs", SCRATCH_PATH),
            *("--chdir", SCRATCH_PATH, "--remount-ro", "/"),
            *(sys.executable, "-I", str(_FENCE)),
        ]


def choices(name: RuntimeName) -> list[Runtime]:
    """Return the runtimes that a setting allows and this machine has, the preferred one first."""
    program = shutil.which("bwrap")
    found: list[Runtime] = [Native()] if name != "bubblewrap" else []
    if program is not None and name != "native":
        found.append(Bubblewrap(program))
    return found


def readable() -> list[str]:
    """Return what Python needs of this machine: the interpreter, its library and packages, shared libraries.

    No whole prefixes: an application may keep its data in /usr/src or beside its Python.
    """
    folders = [f"{prefix}/lib" for prefix in dict.fromkeys((sys.prefix, sys.base_prefix, "/usr", "/usr/local"))]
    code = [path for path in sys.path if path.startswith(tuple(f"{folder}/" for folder in folders))]
    library = [sysconfig.get_path("stdlib"), *code]
    if sys.base_prefix not in ("/usr", "/usr/local"):
        library.append(f"{sys.base_prefix}/lib")  # a distribution of its own keeps its shared libraries there
    kind = sysconfig.get_config_var("MULTIARCH")
    shared = [f"{prefix}/lib/{kind}" for prefix in ("/usr", "", "/usr/local")] if kind else []
    shared += ["/usr/lib64", "/lib64"]
    if not any(Path(path).is_dir() for path in shared if path != "/lib64"):
        shared = ["/usr/lib", "/lib"]
    executable = Path(sys.executable)
    single = [str(executable), str(executable.resolve()), f"{sys.prefix}/pyvenv.cfg", "/etc/ld.so.cache"]
    loaders = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
    zones = ("/usr/share/zoneinfo", "/etc/localtime")
    paths = dict.fromkeys([*library, *shared, *single, *loaders, *zones])
    there = [path for path in paths if Path(path).exists()]
    # A piece inside another piece comes with it.
    return [path for path in there if not any(path.startswith(f"{other}/") for other in there if other != path)]
