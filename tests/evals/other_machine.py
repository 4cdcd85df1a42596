"""Runs a command as on a machine that has less, or as another account: a stand-in for kernels and containers.

`other_machine.py [without-landlock] [without-namespaces] [without-seccomp] [open-way] [as-nobody] -- command…`.
What is taken away answers with an error, as old kernels and container engines do. For root alone: `open-way` lets every
account reach the interpreter, in a mount namespace of its own; `as-nobody` gives up root then. Neither adds an account
to the machine.
"""

import ctypes
import errno
import os
import struct
import sys
from pathlib import Path

_LOAD, _EQUAL, _AT_LEAST, _ABOVE, _RETURN = 0x20, 0x15, 0x35, 0x25, 0x06
_ABSENT, _REFUSED, _ALLOWED = 0x00050000 | errno.ENOSYS, 0x00050000 | errno.EPERM, 0x7FFF0000
_UNSHARE, _PRCTL = {"x86_64": (272, 157), "aarch64": (97, 167)}[os.uname().machine]
_NO_NEW_PRIVILEGES, _SECCOMP, _MODE_FILTER = 38, 22, 2
_NEW_MOUNTS, _RECURSIVE_PRIVATE, _BIND = 0x00020000, 16384 | 1 << 18, 4096 | 16384
NOBODY = 65534
_libc = ctypes.CDLL(None, use_errno=True)
_PARTS = {
    "without-landlock": ((_AT_LEAST, 0, 2, 444), (_ABOVE, 1, 0, 446), (_RETURN, 0, 0, _ABSENT)),
    "without-namespaces": ((_EQUAL, 0, 1, _UNSHARE), (_RETURN, 0, 0, _REFUSED)),
    "without-seccomp": (
        (_EQUAL, 0, 4, _PRCTL),
        (_LOAD, 0, 0, 16),  # the option
        (_EQUAL, 0, 1, _SECCOMP),
        (_RETURN, 0, 0, _REFUSED),
        (_LOAD, 0, 0, 0),
    ),
}


def other_machine(*options: str) -> list[str]:
    """Return what to put before a command."""
    return [sys.executable, __file__, *options, "--"]


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _take_away(options: list[str]) -> None:
    lines = [(_LOAD, 0, 0, 0), *(line for name in options for line in _PARTS[name]), (_RETURN, 0, 0, _ALLOWED)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(lines), ctypes.addressof(code)))
    _check(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _check(_libc.prctl(_SECCOMP, _MODE_FILTER, program, 0, 0))


def _open_way() -> None:
    """Replace folders that only root may enter by what Python and the tests need of them."""
    _check(_libc.unshare(_NEW_MOUNTS))
    _check(_libc.mount(None, b"/", None, _RECURSIVE_PRIVATE, None))
    needed = {Path(sys.prefix), Path(sys.base_prefix), *(Path(path) for path in sys.path if Path(path).is_dir())}
    for place in sorted(needed):
        closed = [parent for parent in reversed(place.parents) if not parent.stat().st_mode & 1]
        if not closed:
            continue
        held = os.open(place, os.O_PATH)
        _check(_libc.mount(b"tmpfs", str(closed[0]).encode(), b"tmpfs", 0, b"mode=755"))
        place.mkdir(parents=True)
        _check(_libc.mount(f"/proc/self/fd/{held}".encode(), str(place).encode(), None, _BIND, None))


def _become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def main() -> None:
    """Become the other machine, then the command."""
    end = sys.argv.index("--")
    options = sys.argv[1:end]
    if os.geteuid() == 0 and ("open-way" in options or "as-nobody" in options):
        _open_way()
        if "as-nobody" in options:
            _become_nobody()
    if taken := [name for name in options if name in _PARTS]:
        _take_away(taken)
    os.execvp(sys.argv[end + 1], sys.argv[end + 1 :])


if __name__ == "__main__":
    main()
