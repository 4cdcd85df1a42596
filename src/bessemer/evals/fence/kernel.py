"""What Linux gives to keep code in: namespaces, a root of its own, another account, Landlock, a system call filter.

The keeper builds the first two (`build_fence`), the server gives up the rest by itself (`give_up`). Each part that the
kernel or a container refuses is left out, and what holds is told.
"""

import contextlib
import ctypes
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

from .frames import SCRATCH_PATH, Json
from .seccomp import program

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
MS_REMOUNT = 32
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 22, 24, 36, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
SECCOMP_MODE_FILTER, CAPABILITY_VERSION_3, LAST_CAPABILITY = 2, 0x20080522, 63
MOUNT_SETATTR, PIVOT_ROOT = 442, {"x86_64": 155, "aarch64": 41}
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
READ, READ_OF_FILE, WRITE_OF_FILE = 0b1101, 0b101, 0b110
# Files and folders in the scratch folder: no execution, devices, sockets, pipes, links.
SCRATCH = 0b0110_0001_1011_1110
UNUSED_IDS = ((0x70000000, 0x7FFDFFFF), (60578, 61183))
"""Ranges that systemd's table of UIDs leaves to nobody: above containers' ranges, and inside 16 bits."""
NOBODY = 65534
NICE = 5
"""Behind the service and the keeper, which must get their turn to end what spins."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")

libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """The kernel does not give a part of the fence."""


def system(result: int, what: str) -> int:
    """Return the result of a call into the C library, or raise Refused with the kernel's reason."""
    if result < 0:
        raise Refused(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


class Fence(NamedTuple):
    """What the keeper could build, and the account that the server becomes."""

    account: int | None
    """User and group id in the keeper's own counting; None: the service's own."""
    private_root: bool
    namespaces: bool


def unused_id() -> int | None:
    """Return an id that belongs to nobody, one of its own for each grader; None where this process may take none."""
    if os.geteuid() != 0:
        return None
    mapped = []
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/self/{name}") as file:
            mapped.append([tuple(map(int, line.split())) for line in file])
    for low, high in UNUSED_IDS:
        if all(any(first <= low and high < first + count for first, _, count in table) for table in mapped):
            return random.randint(low, high)  # noqa: S311 -- no secret
    return None


def subordinate(name: str) -> int | None:
    """Return the first id that /etc/subuid or /etc/subgid lends to this account."""
    import pwd

    own = {str(os.getuid())}
    with contextlib.suppress(KeyError):
        own.add(pwd.getpwuid(os.getuid()).pw_name)
    with contextlib.suppress(OSError, ValueError), open(f"/etc/{name}") as file:
        for line in file:
            owner, first, count = line.split(":")
            if owner in own and int(count) > 0:
                return int(first)
    return None


def enter_user_namespace(flags: int) -> int | None:
    """Enter namespaces without rights over this machine; return the id lent to this account, None where none is."""
    uid, gid, keeper = os.getuid(), os.getgid(), os.getpid()
    lent = {kind: subordinate(f"sub{kind}") for kind in ("uid", "gid")}
    ready, go = os.pipe()
    helper = os.fork()
    if helper == 0:
        # The mapping tools must act on this process from outside of its new namespace.
        os.close(go)
        os.read(ready, 1)
        done = all(lent.values()) and shutil.which("newuidmap") is not None
        for kind, own in (("uid", uid), ("gid", gid)):
            command = [f"new{kind}map", *map(str, (keeper, NOBODY, own, 1, 1, lent[kind], 1))]
            done = done and subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603
        os._exit(0 if done else 1)
    os.close(ready)
    try:
        system(libc.unshare(flags | CLONE_NEWUSER), "unshare")
    finally:
        os.close(go)
        mapped = os.waitpid(helper, 0)[1] == 0
    if mapped:
        return 1
    for name, text in (("setgroups", "deny"), ("uid_map", f"{NOBODY} {uid} 1"), ("gid_map", f"{NOBODY} {gid} 1")):
        with contextlib.suppress(OSError), open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    return None


def restrict_mount(path: str, attributes: int) -> None:
    """Add mount attributes to the mount at a path and all below it."""
    system(
        libc.syscall(MOUNT_SETATTR, -100, path.encode(), 0x8000, struct.pack("=QQQQ", attributes, 0, 0, 0), 32),
        f"mount_setattr {path}",
    )


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """mount(2)."""
    encoded = [text.encode() if text is not None else None for text in (source, target, kind)]
    system(libc.mount(*encoded, flags, options.encode() if options else None), f"mount {target}")


def mount_scratch(target: str, account: int | None, limits: Json) -> None:
    """Put a new, empty folder in memory over the scratch folder: sized, nothing in it can be executed."""
    owner = account if account is not None else os.getuid()
    options = f"mode=700,uid={owner},gid={owner if account is not None else os.getgid()}"
    options += f",size={limits['disk_mb']}m,nr_inodes=4096"
    mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options)


def enter_private_root(folder: str, setup: Json) -> None:
    """Make a root of read-only pieces of the host's, and leave the host's for good. `folder` is where it is built."""
    system(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "mount /")
    mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=4m,nr_inodes=16384")
    for path in [*setup["readable"], *DEVICES]:
        target = folder + path
        if os.path.isdir(path):
            os.makedirs(target, exist_ok=True)
        elif os.path.exists(path) and not os.path.exists(target):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o444))
        else:
            continue
        mount(path, target, None, MS_BIND | MS_REC)
        restrict_mount(target, MS_RDONLY | MS_NOSUID | (MS_NOEXEC if path in DEVICES else MS_NODEV))
    os.makedirs(folder + SCRATCH_PATH)
    os.chdir(folder)
    system(libc.syscall(PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
    system(libc.umount2(b".", MNT_DETACH), "umount")
    os.chdir("/")
    system(
        libc.mount(None, b"/", None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, None),
        "remount /",
    )


def open_to_all(*, private_root: bool) -> bool:
    """Whether another account can read Python: a private root has the last folder of each path alone."""
    library = os.__file__
    places = [os.path.dirname(library)]
    while not private_root and places[-1] != "/":
        places.append(os.path.dirname(places[-1]))
    files = [library, *(path for path in (f"{sys.prefix}/pyvenv.cfg",) if os.path.exists(path))]
    return all(os.stat(file).st_mode & 4 for file in files) and all(os.stat(place).st_mode & 1 for place in places)


def build_fence(folder: str, setup: Json) -> Fence:
    """Enter namespaces and a root of their own, each as far as the kernel allows."""
    account, namespaces, private_root = unused_id(), setup["enclosed"], setup["enclosed"]
    flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
    if not setup["enclosed"] and os.uname().machine in PIVOT_ROOT:
        with contextlib.suppress(Refused, OSError):
            if account is None:
                account = enter_user_namespace(flags)
            else:
                system(libc.unshare(flags), "unshare")
            namespaces = True
            libc.sethostname(b"grader", 6)
            enter_private_root(folder, setup)
            private_root = True
    return Fence(account if open_to_all(private_root=private_root) else None, private_root, namespaces)


def landlock(readable: Sequence[str], scratch: int) -> bool:
    """Restrict this process's file accesses, TCP, signals and abstract sockets, as far as the kernel's version goes."""
    version = libc.syscall(LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        return False
    every = (1 << (16 if version >= 5 else 15 if version >= 3 else 14 if version >= 2 else 13)) - 1
    network, scopes = (0b11 if version >= 4 else 0), (0b11 if version >= 6 else 0)
    attributes = struct.pack("=QQQ", every, network, scopes)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    rules = libc.syscall(LANDLOCK_CREATE, attributes, len(attributes), 0)
    if rules < 0:
        return False
    allowed = [(path, READ if os.path.isdir(path) else READ_OF_FILE) for path in readable]
    for path, access in [*allowed, ("/dev/null", WRITE_OF_FILE), *((path, READ_OF_FILE) for path in DEVICES)]:
        with contextlib.suppress(OSError):
            place = os.open(path, os.O_PATH)
            libc.syscall(LANDLOCK_ADD, rules, 1, struct.pack("=Qi", access & every, place), 0)
            os.close(place)
    libc.syscall(LANDLOCK_ADD, rules, 1, struct.pack("=Qi", SCRATCH & every, scratch), 0)
    fenced: bool = libc.syscall(LANDLOCK_RESTRICT, rules, 0) == 0
    os.close(rules)
    return fenced


def filter_system_calls(*, signals: bool) -> bool:
    """Let only the calls of `seccomp` pass, in this process and all that it starts."""
    lines = program(signals=signals)
    if lines is None:
        return False
    code = ctypes.create_string_buffer(lines, len(lines))
    head = struct.pack("@HP", len(lines) // 8, ctypes.addressof(code))
    done: bool = libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, head, 0, 0) == 0
    return done


def become(account: int | None) -> bool:
    """Become the grader's account and drop all capabilities; return whether the account is not the service's own."""
    for capability in range(LAST_CAPABILITY + 1):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    other = False
    if account is not None:
        os.setgroups([])
        os.setresgid(account, account, account)
        os.setresuid(account, account, account)
        other = True
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    libc.capset(struct.pack("=II", CAPABILITY_VERSION_3, 0), struct.pack("=6I", *[0] * 6))
    return other


def limit(kind: int, value: int) -> None:
    """Set a hard limit, never above the one that holds already."""
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def give_up(fence: Fence, setup: Json, scratch: int) -> Json:
    """In the server: give up account, rights, files and system calls; return what holds."""
    limits = setup["limits"]
    own_count = fence.account is not None or fence.namespaces
    limit(resource.RLIMIT_AS, limits["memory_mb"] << 20)
    limit(resource.RLIMIT_FSIZE, limits["disk_mb"] << 20)
    limit(resource.RLIMIT_NOFILE, 128)
    for kind in (resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE):
        limit(kind, 0)
    os.nice(NICE)
    other = become(fence.account)
    if own_count:
        # Elsewhere this would count every process of the service's account; there the keeper counts alone.
        limit(resource.RLIMIT_NPROC, limits["processes"])
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # after the change of account, which clears it
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    locked = landlock(setup["readable"], scratch)
    os.close(scratch)
    filtered = filter_system_calls(signals=fence.namespaces)
    return {
        "account": "other" if other else "own",
        "files": "private root" if fence.private_root else "landlock" if locked else "open",
        "processes": "namespace" if fence.namespaces else "shared",
        "system_calls": "filtered" if filtered else "open",
    }
