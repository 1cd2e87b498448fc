"""Making a process lack what it usually has, for good: only ever to be called in an interpreter started for that."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import sys
from typing import Any

CANNOT = 77  # exit code of a program that could not be brought into its plight

_MEMFD_CREATE = {"x86_64": (0xC000003E, 319), "aarch64": (0xC00000B7, 279)}  # architecture in audit.h, number of the call


class _Filter(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint))


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.POINTER(_Filter)))


def refuse_memfd() -> None:
    """Have the kernel refuse memfd_create, here and in all processes that come from here; see seccomp(2)."""
    if platform.machine() not in _MEMFD_CREATE:
        _give_up(f"the number of memfd_create on {platform.machine()} is not known here")
    architecture, number = _MEMFD_CREATE[platform.machine()]
    load, equal, give = 0x20, 0x15, 0x06
    steps = (_Filter * 6)(
        _Filter(load, 0, 0, 4),
        _Filter(equal, 0, 3, architecture),
        _Filter(load, 0, 0, 0),
        _Filter(equal, 0, 1, number),
        _Filter(give, 0, 0, 0x00050000 | errno.EPERM),
        _Filter(give, 0, 0, 0x7FFF0000),
    )
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_seccomp, mode_filter = 38, 22, 2
    program = _Program(len(steps), steps)
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) or libc.prctl(set_seccomp, mode_filter, ctypes.byref(program), 0, 0):
        _give_up("no filter of system calls can be installed")
    try:
        os.close(os.memfd_create("offloop-test"))
    except PermissionError:
        return
    raise AssertionError("memfd_create is not refused")


def mount_over(folder: str, n_bytes: int, *, read_only: bool = False) -> None:
    """Put a file system of this size over a folder, seen by this process and its children alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_namespace, private, is_read_only = 0x20000, 0x4000 | 1 << 18, 1
    if libc.unshare(new_namespace) or libc.mount(b"none", b"/", None, ctypes.c_ulong(private), None):
        _give_up("no file systems can be mounted")
    flags = ctypes.c_ulong(is_read_only if read_only else 0)
    if libc.mount(b"tmpfs", folder.encode(), b"tmpfs", flags, f"size={n_bytes}".encode()):
        _give_up("no file systems can be mounted")


def _give_up(why: str) -> None:
    print(why)
    sys.exit(CANNOT)


def limit_file_size(n_bytes: int) -> None:
    """Let no file become larger: writing fails with EFBIG then, since Python ignores SIGXFSZ."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))


_hoard: list[int] = []


def hoard_descriptors(_: Any = None, spare: int = 0) -> int:
    """Open descriptors until there are no more, but for so many; return how many these are."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    try:
        while True:
            _hoard.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
    for _ in range(spare):
        os.close(_hoard.pop())
    return len(_hoard)


def free_descriptors(_: Any = None) -> int:
    """Close what was hoarded."""
    while _hoard:
        os.close(_hoard.pop())
    return len(_hoard)


def open_descriptors(_: Any = None) -> int:
    """Return how many descriptors this process has open, without the one to count them by."""
    return len(os.listdir("/proc/self/fd")) - 1
