"""A process that can only compute: what Linux lets an ordinary user take away from himself.

The converter reads files of unknown origin in such a process, although the reader calls nothing that a file names: a
mistake in the reader, in zipfile or in pickletools then still finds no network, no program and no file to write.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct

_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER, _DUMPABLE = 38, 22, 2, 4
_ALLOW, _DENY = 0x7FFF0000, 0x00050000 | errno.EPERM
_NOT_THERE = 0x00050000 | errno.ENOSYS
_NEW_USER, _NEW_NETWORK, _NEW_IPC = 0x10000000, 0x40000000, 0x08000000
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

# Numbers of the system calls, from the kernel's tables: (identity of the architecture, calls).
_CALLS: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (
        0xC000003E,
        {
            **{"open": 2, "openat": 257, "openat2": 437, "creat": 85, "truncate": 76},
            **{"execve": 59, "execveat": 322, "fork": 57, "vfork": 58, "clone": 56, "clone3": 435},
            **{"socket": 41, "connect": 42, "bind": 49, "sendto": 44, "sendmsg": 46, "socketpair": 53},
            **{"ptrace": 101, "kill": 62, "tkill": 200, "pidfd_send_signal": 424, "process_vm_writev": 311},
            **{"unlink": 87, "unlinkat": 263, "rmdir": 84, "rename": 82, "renameat": 264, "renameat2": 316},
            **{"mkdir": 83, "mkdirat": 258, "link": 86, "linkat": 265, "symlink": 88, "symlinkat": 266},
            **{"chmod": 90, "fchmodat": 268, "chown": 92, "lchown": 94, "fchownat": 260, "mknod": 133, "mknodat": 259},
            **{"mount": 165, "umount2": 166, "chroot": 161, "pivot_root": 155, "setns": 308, "unshare": 272},
            **{"bpf": 321, "io_uring_setup": 425, "keyctl": 250, "add_key": 248, "init_module": 175, "kexec_load": 246},
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            **{"openat": 56, "openat2": 437, "truncate": 45},
            **{"execve": 221, "execveat": 281, "clone": 220, "clone3": 435},
            **{"socket": 198, "connect": 203, "bind": 200, "sendto": 206, "sendmsg": 211, "socketpair": 199},
            **{"ptrace": 117, "kill": 129, "tkill": 130, "pidfd_send_signal": 424, "process_vm_writev": 271},
            **{"unlinkat": 35, "renameat": 38, "renameat2": 276, "mkdirat": 34, "linkat": 37, "symlinkat": 36},
            **{"fchmodat": 53, "fchownat": 54, "mknodat": 33, "mount": 40, "umount2": 39, "chroot": 51},
            **{"pivot_root": 41, "setns": 268, "unshare": 97, "bpf": 280, "io_uring_setup": 425},
            **{"keyctl": 219, "add_key": 217, "init_module": 105, "kexec_load": 104},
        },
    ),
}
_FLAGS_ARGUMENT = {"open": 1, "openat": 2}


def confine(most_memory: int, most_written: int, cpu_s: int) -> list[str]:
    """Take from this process what computing does not need; return in words what is gone.

    Files that are open stay open, and files can be opened to read.

    Args:
        most_memory: bytes that the process may add to its address space.
        most_written: bytes of the largest file that it may write.
        cpu_s: seconds of computing, after which the kernel ends it.
    """
    done = []
    for what, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, most_written),
        (resource.RLIMIT_AS, _address_space() + most_memory),
    ):
        hard = resource.getrlimit(what)[1]
        value = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (value, value))
    done.append("limited memory, time and file size")
    libc = ctypes.CDLL(None, use_errno=True)
    # In a user namespace of its own also root is nobody; where containers forbid that, the filter below remains.
    if platform.system() == "Linux" and libc.unshare(_NEW_USER | _NEW_NETWORK | _NEW_IPC) == 0:
        done.append("no privileges, a network of its own without any device")
    if platform.system() == "Linux" and libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0:
        libc.prctl(_DUMPABLE, 0, 0, 0, 0)
        done.append("no new privileges")
        if _filter(libc):
            done.append("no network, no other programs, no other files to write")
    return done


def _address_space() -> int:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        return 4 << 30


def _filter(libc: ctypes.CDLL) -> bool:
    """Let the kernel refuse the calls of `_CALLS` (seccomp, classic BPF); whether it does."""
    if platform.machine() not in _CALLS:
        return False
    identity, calls = _CALLS[platform.machine()]

    def step(code: int, yes: int, no: int, value: int) -> bytes:
        return struct.pack("<HBBI", code, yes, no, value)

    load, equal, masked, answer = 0x20, 0x15, 0x45, 0x06
    # Another architecture's numbers (32 bit) would pass by the table: refused as a whole.
    program = [step(load, 0, 0, 4), step(equal, 1, 0, identity), step(answer, 0, 0, _DENY), step(load, 0, 0, 0)]
    if platform.machine() == "x86_64":
        program += [step(masked, 0, 1, 0x40000000), step(answer, 0, 0, _DENY)]
    for name, number in calls.items():
        argument = _FLAGS_ARGUMENT.get(name)
        if argument is None:
            # Libraries fall back where a call is said not to exist.
            verdict = _NOT_THERE if name in ("clone3", "openat2") else _DENY
            program += [step(equal, 0, 1, number), step(answer, 0, 0, verdict)]
        else:
            program += [
                step(equal, 0, 4, number),
                step(load, 0, 0, 16 + 8 * argument),
                step(masked, 0, 1, _WRITES),
                step(answer, 0, 0, _DENY),
                step(answer, 0, 0, _ALLOW),
            ]
    program.append(step(answer, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(program))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]

    pointer = Program(len(program), ctypes.addressof(code))
    return libc.prctl(_SECCOMP, _FILTER, ctypes.byref(pointer), 0, 0) == 0
