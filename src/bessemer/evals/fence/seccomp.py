"""The system calls that a grader's code may make, as a classic BPF program for seccomp(2); nothing else passes.

An allow-list: what Python and numerical libraries need to compute, to use files and to start threads and processes. No
sockets of any family, no change of modes, owners, times or extended attributes, no links, no keys, no tracing, no
mounts, namespaces, asynchronous rings, shared memory by key or message queues. Whatever is not named gets EPERM, and
another calling convention than the machine's own (32 bits, x32) ends the process. Numbers are those of the kernel's
asm/unistd_64.h (x86_64) and asm-generic/unistd.h (aarch64).
"""

import errno
import platform
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_ALWAYS = """
read 0 63; write 1 64; readv 19 65; writev 20 66; pread64 17 67; pwrite64 18 68; preadv 295 69; pwritev 296 70;
close 3 57; close_range 436 436; lseek 8 62; fstat 5 80; stat 4 -; lstat 6 -; newfstatat 262 79; statx 332 291;
access 21 -; faccessat 269 48; faccessat2 439 439; statfs 137 43; fstatfs 138 44; getdents 78 -; getdents64 217 61;
getcwd 79 17; chdir 80 49; fchdir 81 50; readlink 89 -; readlinkat 267 78; rename 82 -; renameat 264 38;
renameat2 316 276; rmdir 84 -; unlink 87 -; unlinkat 263 35; umask 95 166; ftruncate 77 46; fallocate 285 47;
fadvise64 221 223; fsync 74 82; fdatasync 75 83; dup 32 23; dup2 33 -; dup3 292 24; pipe 22 -; pipe2 293 59;
poll 7 -; ppoll 271 73; select 23 -; pselect6 270 72; epoll_create 213 -; epoll_create1 291 20; epoll_ctl 233 21;
epoll_wait 232 -; epoll_pwait 281 22; eventfd2 290 19; mmap 9 222; munmap 11 215; mremap 25 216; mprotect 10 226;
madvise 28 233; msync 26 227; brk 12 214; rt_sigaction 13 134; rt_sigprocmask 14 135; rt_sigreturn 15 139;
rt_sigpending 127 136; rt_sigsuspend 130 133; rt_sigtimedwait 128 137; sigaltstack 131 132; restart_syscall 219 128;
pause 34 -; alarm 37 -; getitimer 36 102; setitimer 38 103; nanosleep 35 101; clock_nanosleep 230 115;
clock_gettime 228 113; clock_getres 229 114; gettimeofday 96 169; time 201 -; times 100 153; getpid 39 172;
getppid 110 173; gettid 186 178; getpgrp 111 -; getpgid 121 155; getsid 124 156; setsid 112 157; setpgid 109 154;
getuid 102 174; geteuid 107 175; getgid 104 176; getegid 108 177; getresuid 118 148; getresgid 120 150;
getgroups 115 158; uname 63 160; sysinfo 99 179; getrusage 98 165; getrlimit 97 163; setrlimit 160 164;
getpriority 140 141; getcpu 309 168; sched_yield 24 124; sched_getaffinity 204 123; sched_getparam 143 121;
sched_getscheduler 145 120; sched_get_priority_max 146 125; sched_get_priority_min 147 126; futex 202 98;
set_tid_address 218 96; set_robust_list 273 99; get_robust_list 274 100; arch_prctl 158 -; getrandom 318 278;
vfork 58 -; fork 57 -; execve 59 221; wait4 61 260; waitid 247 95; exit 60 93; exit_group 231 94;
rseq 334 293
"""
"""rseq: the C library aborts where it has it for the first thread and not for others."""
_SIGNALS = "kill 62 129; tkill 200 130; tgkill 234 131"
_ABSENT = "clone3 435 435; openat2 437 437; membarrier 324 283"
"""Answered with ENOSYS, so that libraries take the older way: a filter cannot see the flags behind their pointers."""


class _Rule(NamedTuple):
    """A call that passes for some values of one argument: those in a set, or those without some bits."""

    call: str
    argument: int
    values: Sequence[int] = ()
    without: int = 0


_SET_ID_BITS = 0o6000
_NEW_NAMESPACES, _AS_SIBLING, _TRACED = 0x7E020000, 0x8000, 0x2000
_RULES = (
    _Rule("open 2 -", 2, without=_SET_ID_BITS),
    _Rule("openat 257 56", 3, without=_SET_ID_BITS),
    _Rule("creat 85 -", 1, without=_SET_ID_BITS),
    _Rule("mkdir 83 -", 1, without=_SET_ID_BITS),
    _Rule("mkdirat 258 34", 2, without=_SET_ID_BITS),
    _Rule("clone 56 220", 0, without=_NEW_NAMESPACES | _AS_SIBLING | _TRACED),
    # F_DUPFD to F_SETLKW, open file descriptions' locks, F_DUPFD_CLOEXEC, F_GETPIPE_SZ: no signals, leases, seals.
    _Rule("fcntl 72 25", 1, values=(*range(8), 36, 37, 38, 1030, 1032)),
    # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX: no file flags, no terminals.
    _Rule("ioctl 16 29", 1, values=(0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),
    # PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_SET_VMA (names of anonymous memory).
    _Rule("prctl 157 167", 0, values=(3, 15, 16, 0x53564D41)),
    _Rule("prlimit64 302 261", 0, values=(0,)),
)
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""AUDIT_ARCH_* of linux/audit.h, and the column of the tables."""
_X32 = 0x40000000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Offsets in struct seccomp_data; a little-endian argument's low word comes first."""


def _numbers(table: str, column: int) -> Iterator[int]:
    for entry in table.split(";"):
        number = entry.split()[1 + column]
        if number != "-":
            yield int(number)


def _line(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _answer(number: int, action: int) -> Iterator[bytes]:
    yield _line(_JUMP_EQUAL, number, 0, 1)
    yield _line(_RETURN, action)


def _conditional(number: int, rule: _Rule) -> Iterator[bytes]:
    tests = [_line(_LOAD, _ARGUMENTS + 8 * rule.argument)]
    if rule.without:
        tests += [_line(_JUMP_ANY_BIT, rule.without, 1, 0), _line(_RETURN, _ALLOW)]
    for value in rule.values:
        tests += [_line(_JUMP_EQUAL, value, 0, 1), _line(_RETURN, _ALLOW)]
    tests.append(_line(_RETURN, _ERROR | errno.EPERM))
    yield _line(_JUMP_EQUAL, number, 0, len(tests))
    yield from tests


def program(*, signals: bool, machine: str | None = None) -> bytes | None:
    """Return the filter (struct sock_filter after struct sock_filter), None for a machine without a table.

    `signals`: whether kill and its kin pass, for where a process namespace leaves nobody else in reach.
    """
    known = _MACHINES.get(machine or platform.machine())
    if known is None:
        return None
    architecture, column = known
    lines = [
        _line(_LOAD, _ARCHITECTURE),
        _line(_JUMP_EQUAL, architecture, 1, 0),
        _line(_RETURN, _KILL),
        _line(_LOAD, _NUMBER),
        _line(_JUMP_AT_LEAST, _X32, 0, 1),
        _line(_RETURN, _KILL),
    ]
    for number in _numbers(_ALWAYS + (f"; {_SIGNALS}" if signals else ""), column):
        lines += _answer(number, _ALLOW)
    for number in _numbers(_ABSENT, column):
        lines += _answer(number, _ERROR | errno.ENOSYS)
    for rule in _RULES:
        for number in _numbers(rule.call, column):
            lines += _conditional(number, rule)
    lines.append(_line(_RETURN, _ERROR | errno.EPERM))
    return b"".join(lines)
