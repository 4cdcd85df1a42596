"""What hostile graders try, each a function that is true when it got away with it. Run inside the sandbox by its tests.

This text is a grader's source: `item["escape"]` names the function. It stands alone.
"""

import ctypes
import errno
import os
import signal
import socket
import stat
import subprocess
import sys

libc = ctypes.CDLL(None, use_errno=True)
CALLS = {
    "fchmodat2": 452,
    "linkat": 265,
    "link": 86,
    "symlinkat": 266,
    "symlink": 88,
    "mknod": 133,
    "mknodat": 259,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_setup": 206,
    "add_key": 248,
    "request_key": 249,
    "keyctl": 250,
    "bpf": 321,
    "userfaultfd": 323,
    "perf_event_open": 298,
    "ptrace": 101,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "process_madvise": 440,
    "unshare": 272,
    "setns": 308,
    "mount": 165,
    "umount2": 166,
    "pivot_root": 155,
    "chroot": 161,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsmount": 432,
    "mount_setattr": 442,
    "clone3": 435,
    "memfd_create": 319,
    "memfd_secret": 447,
    "execveat": 322,
    "name_to_handle_at": 303,
    "open_by_handle_at": 304,
    "openat2": 437,
    "shmget": 29,
    "shmat": 30,
    "semget": 64,
    "msgget": 68,
    "mq_open": 240,
    "inotify_init1": 294,
    "fanotify_init": 300,
    "personality": 135,
    "seccomp": 317,
    "landlock_create_ruleset": 444,
    "pidfd_open": 434,
    "pidfd_getfd": 438,
    "pidfd_send_signal": 424,
    "kcmp": 312,
    "sethostname": 170,
    "setpriority": 141,
    "ioprio_set": 251,
    "sched_setaffinity": 203,
    "sched_setscheduler": 144,
    "setuid": 105,
    "setresuid": 117,
    "setgroups": 116,
    "capset": 126,
    "truncate": 76,
    "chmod": 90,
    "fchmod": 91,
    "fchmodat": 268,
    "chown": 92,
    "fchown": 93,
    "lchown": 94,
    "fchownat": 260,
    "utime": 132,
    "utimes": 235,
    "utimensat": 280,
    "futimesat": 261,
    "setxattr": 188,
    "lsetxattr": 189,
    "fsetxattr": 190,
    "removexattr": 197,
    "setxattrat": 463,
    "getxattr": 191,
    "socket": 41,
    "socketpair": 53,
    "connect": 42,
    "bind": 49,
    "sendmsg": 46,
    "recvmsg": 47,
    "splice": 275,
    "vmsplice": 278,
    "tee": 276,
    "signalfd4": 289,
    "timerfd_create": 283,
    "membarrier": 324,
    "iopl": 172,
    "modify_ldt": 154,
    "quotactl": 179,
    "acct": 163,
    "syslog": 103,
    "migrate_pages": 256,
    "move_pages": 279,
    "lookup_dcookie": 212,
    "kexec_load": 246,
    "init_module": 175,
    "rt_sigqueueinfo": 129,
    "rt_tgsigqueueinfo": 297,
    "statmount": 457,
    "lsm_set_self_attr": 460,
    "mseal": 462,
}


def passes(name, *arguments):
    ctypes.set_errno(0)
    arguments = arguments or (-1, -1, -1, -1, -1, -1)
    result = libc.syscall(CALLS[name], *map(ctypes.c_long, arguments))
    return result >= 0 or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS)


def worked(action):
    try:
        action()
    except (OSError, ValueError):
        return False
    return True


def a_call_passes(item):
    return passes(item["call"])


def mode_bits(item):
    with open("f", "w"):
        pass
    os.mkdir("d")
    return any(
        map(
            worked,
            (
                lambda: os.chmod("f", 0o4755),
                lambda: os.chmod("f", 0o600, follow_symlinks=True),
                lambda: os.chmod(os.open("f", os.O_RDONLY), 0o4755),
                lambda: os.chmod("f", 0o777, dir_fd=os.open(".", os.O_RDONLY)),
                lambda: os.chown("f", -1, -1),
                lambda: os.utime("f"),
                lambda: os.setxattr("f", "user.x", b"1"),
                lambda: os.chmod(item["folder"], 0),
                lambda: os.chmod(item["secret"], 0o644),
                lambda: os.utime(item["secret"]),
            ),
        )
    )


def set_id_at_creation(item):
    def kept(make):
        with_bits = worked(make)
        return with_bits and os.stat("s").st_mode & 0o6000 != 0

    return (
        kept(lambda: os.open("s", os.O_CREAT | os.O_WRONLY, 0o4755))
        or kept(lambda: os.open("s", os.O_TMPFILE | os.O_WRONLY, 0o6755))
        or (worked(lambda: os.mkdir("sd", 0o2777)) and os.stat("sd").st_mode & 0o6000 != 0)
    )


def sockets(item):
    for family in range(46):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
            if worked(lambda: socket.socket(family, kind, 0)):
                return True
    return worked(socket.socketpair) or worked(lambda: socket.create_connection(("127.0.0.1", 1), timeout=0.1))


def namespaces_by_clone(item):
    for flag in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000, 0x8000):
        pid = libc.syscall(56, flag | signal.SIGCHLD, 0, 0, 0, 0)
        if pid == 0:
            os._exit(0)
        if pid > 0:
            return True
    return False


def another_calling_convention(item):
    """x32 and 32-bit calls end the process."""
    code = b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"  # mov eax, 20 (getpid of 32 bits); int 0x80; ret
    for convention in ("x32", "i386"):
        pid = os.fork()
        if pid == 0:
            if convention == "x32":
                libc.syscall(0x40000000 + 39)
            else:
                import mmap

                area = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
                area.write(code)
                ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(area)))()
            os._exit(0)
        if not os.WIFSIGNALED(os.waitpid(pid, 0)[1]):
            return True
    return False


def reads(item):
    for path in (
        item["secret"],
        "/etc/passwd",
        "/etc/shadow",
        "/proc/self/mem",
        "/proc/1/environ",
        "/proc/self/status",
        "/dev/mem",
        "/dev/kmsg",
        "/run",
        "/root/.profile",
        "/home",
        "/var",
        "/sys",
        f"/proc/{item['pid']}/root{item['secret']}",
        "../" * 20 + item["secret"],
    ):
        if worked(lambda: os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1)):
            raise RuntimeError(f"read {path}")
    return False


def writes(item):
    places = (
        "/x",
        "/tmp/x",
        "../x",
        "/usr/lib/x",
        "/dev/x",
        "/dev/shm/x",
        sys.prefix + "/x",
        os.path.dirname(os.__file__) + "/x",
        item["folder"] + "/x",
    )
    for place in places:
        if worked(lambda: open(place, "w")) or worked(lambda: os.mkdir(place)) or worked(lambda: os.rename("f", place)):
            raise RuntimeError(f"wrote {place}")
    return (
        worked(lambda: open(os.__file__, "r+"))
        or worked(lambda: os.unlink(os.__file__))
        or worked(lambda: os.truncate(item["secret"], 0))
    )


def links(item):
    return any(
        map(
            worked,
            (
                lambda: os.symlink(item["secret"], "l"),
                lambda: os.link(item["secret"], "h"),
                lambda: os.link(os.__file__, "h"),
                lambda: os.mkfifo("p"),
                lambda: os.mknod("n", stat.S_IFCHR | 0o600, os.makedev(1, 1)),
            ),
        )
    )


def inherited_descriptors(item):
    for number in range(3, 256):
        try:
            if not stat.S_ISFIFO(os.fstat(number).st_mode):
                return True
        except OSError:
            continue
    return False


def signals_to_others(item):
    return (
        worked(lambda: os.kill(item["pid"], 0))
        or worked(lambda: os.killpg(item["pid"], 0))
        or any(worked(lambda: os.kill(pid, 0)) for pid in item["others"])
    )


def signals_by_other_means(item):
    import fcntl

    pipe = os.pipe()[0]
    return any(
        map(
            worked,
            (
                lambda: fcntl.fcntl(pipe, fcntl.F_SETOWN, item["pid"]),
                lambda: fcntl.fcntl(pipe, 10, 9),
                lambda: fcntl.fcntl(pipe, fcntl.F_NOTIFY, 1),
                lambda: fcntl.fcntl(pipe, fcntl.F_SETLEASE, 0),
                lambda: fcntl.ioctl(os.open(".", os.O_RDONLY), 0x40086602, b"\x40\0\0\0\0\0\0\0"),
                lambda: fcntl.ioctl(0, 0x5412, b"x"),
            ),
        )
    )


def limits_of_others(item):
    import resource

    return any(
        worked(lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE)) for pid in (item["pid"], 1, os.getppid())
    ) or worked(lambda: resource.setrlimit(resource.RLIMIT_NPROC, (-1, -1)))


def new_rights(item):
    return any(libc.prctl(option, 1, 0, 0, 0) >= 0 for option in (4, 8, 23, 24, 28, 35, 36, 47, 0x59616D61)) or worked(
        lambda: os.setuid(0)
    )


def runs_what_it_wrote(item):
    with open("copy", "wb") as copy, open(os.path.realpath(sys.executable), "rb") as python:
        copy.write(python.read())
    return worked(lambda: os.execv("./copy", ["copy", "-c", "0"])) or worked(
        lambda: subprocess.run(["./copy", "-c", "0"], check=True)
    )


def environment(item):
    return bool(
        set(os.environ) - {"PATH", "LANG", "LC_CTYPE", "HOME", "TMPDIR", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"}
    )


def processes(item):
    made = 0
    for _ in range(1500):
        try:
            if os.fork() == 0:
                import time

                time.sleep(30)
                os._exit(0)
        except OSError:
            break
        made += 1
    return made > 100


def disk(item):
    written = 0
    try:
        for number in range(60):
            with open(f"big{number}", "wb") as file:
                written += file.write(bytes(16 << 20))
    except OSError:
        pass
    return written > 96 << 20


def grade(sample, item):
    return float(bool(globals()[item["escape"]](item)))
