"""Runs a command as on a kernel without Landlock: a seccomp filter says ENOSYS to its system calls."""

import ctypes
import errno
import os
import struct
import sys

NO_LANDLOCK = (sys.executable, __file__)
"""Put before a command."""

_FIRST, _LAST = 444, 446
_LOAD, _AT_LEAST, _ABOVE, _RETURN = 0x20, 0x35, 0x25, 0x06
_REFUSE, _ALLOW = 0x00050000 | errno.ENOSYS, 0x7FFF0000
_FILTER = (
    (_LOAD, 0, 0, 0),  # the number of the system call
    (_AT_LEAST, 0, 2, _FIRST),
    (_ABOVE, 1, 0, _LAST),
    (_RETURN, 0, 0, _REFUSE),
    (_RETURN, 0, 0, _ALLOW),
)
_NO_NEW_PRIVILEGES, _SECCOMP, _MODE_FILTER = 38, 22, 2


def main() -> None:
    """Take Landlock away for good and become the command."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in _FILTER))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(_FILTER), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((_NO_NEW_PRIVILEGES, 1, 0, 0, 0), (_SECCOMP, _MODE_FILTER, program, 0, 0)):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "no seccomp")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
