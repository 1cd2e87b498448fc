"""Storage: where memory files are made, and where those of the other side are taken in.

Three kinds, by what the platform has:

    memory    memfd_create(2), sealed once it is written; the default on Linux
    file      an unlinked temporary file, in /dev/shm where that is; what `memory` falls back to
    portable  a private file in the session's own folder, which travels by its path: where no descriptor can be passed
"""

from __future__ import annotations

import errno
import itertools
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial

from .memory import PAGE, Buffers, MemoryFile, Unmapped, is_sealed

# The kernel writes to a file in one thread at a time, 400 MB in 200 ms. In two files at once it took 110 ms.
_STRIPE_BYTES = 32 << 20
_MAX_STRIPES = 4

KINDS = ("memory", "file", "portable")


class Storage:
    """Makes memory files of one kind, or of the next best where that one can't be had, and takes in those of others.

    Args:
        kind: One of `KINDS`.
        folder: The session's own, for ``portable``.
        trusts: Whether the other side is trusted not to shorten a file that it has sent: then every file is mapped, else
            only those that are sealed.
    """

    def __init__(self, kind: str, folder: str | None = None, *, trusts: bool = False) -> None:
        self.kind, self.folder = kind, folder
        self._trusts = trusts
        self._files: weakref.WeakSet[MemoryFile] = weakref.WeakSet()  # that nobody writes any more
        self._numbers = itertools.count()

    def store(self, buffers: Buffers, size: int) -> MemoryFile | None:
        """Write buffers, each at its offset, to a new file; None if there is no room for one in any way.

        What was begun in vain is gone. The last way out is the lane itself, which needs neither file nor descriptor.
        """
        for create in self._ways(size):
            try:
                file = create()
            except (OSError, ImportError):  # no descriptor is left to read a module with
                continue
            try:
                file.write(buffers)
            except OSError as error:
                file.close()
                if error.errno not in _NO_ROOM:
                    raise
                continue
            self._files.add(file)
            return file
        return None

    def received(self, fds: Sequence[int]) -> MemoryFile:
        """Return the file behind descriptors that came over a lane, in order of the stripes."""
        return self._taken_in(fds)

    def opened(self, path: str) -> MemoryFile:
        """Open the file that came by its path. One that a worker sent has no name any more afterwards."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        finally:
            if not self._trusts:
                os.unlink(path)
        return self._taken_in([fd])

    def _taken_in(self, fds: Sequence[int]) -> MemoryFile:
        sizes = [os.fstat(fd).st_size for fd in fds]
        kind = MemoryFile if self._trusts or all(map(is_sealed, fds)) else Unmapped
        file = kind(fds, sizes[0], sum(sizes))
        self._files.add(file)
        return file

    def close(self) -> None:
        """Close all files; what was mapped stays.

        Mostly there are none left, but a task whose event loop was closed under it holds on to its own for ever.
        """
        for file in list(self._files):
            file.close()

    def _ways(self, size: int) -> Iterator[Callable[[], MemoryFile]]:
        if self.kind == "portable":
            yield partial(self._named, size)
            return
        if self.kind == "memory" and hasattr(os, "memfd_create"):
            yield partial(self._memfd, size)
        for folder in ("/dev/shm", None):
            if folder is None or _free(folder) > size:
                yield partial(self._unlinked, folder, size)

    def _memfd(self, size: int) -> MemoryFile:
        count = max(1, min(_MAX_STRIPES, size // _STRIPE_BYTES, _cores()))
        stripe = -(-size // count)
        stripe += -stripe % PAGE
        fds: list[int] = []
        file = MemoryFile((), stripe, size)
        for _ in range(count):
            fds.append(os.memfd_create("offloop", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
            file.fds = tuple(fds)  # one by one, so that none is left open if the next can't be had
        return file

    def _unlinked(self, folder: str | None, size: int) -> MemoryFile:
        import tempfile

        with tempfile.TemporaryFile(dir=folder) as file:
            return MemoryFile([os.dup(file.fileno())], size, size)

    def _named(self, size: int) -> MemoryFile:
        assert self.folder is not None
        path = f"{self.folder}/{os.getpid()}-{id(self)}-{next(self._numbers)}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        return MemoryFile([fd], size, size, path)


@cache
def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_NO_ROOM = frozenset(
    {errno.ENOSPC, errno.ENOMEM, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EPERM}
)


def memory_file(name: str, size: int) -> int:
    """Return the descriptor of a file in memory, or of an unlinked one, that both sides may write to.

    Raises:
        OSError: None can be had, or there is no room for it.
    """
    if hasattr(os, "memfd_create"):
        try:
            return fill(os.memfd_create(name, os.MFD_CLOEXEC), size)
        except OSError:  # refused, by a filter of system calls say
            pass
    import tempfile

    folder = "/dev/shm" if _free("/dev/shm") > size else None
    with tempfile.TemporaryFile(prefix=name, dir=folder) as file:
        return fill(os.dup(file.fileno()), size)


def fill(fd: int, size: int) -> int:
    """Fill a file with zeros and return it, or close it where there is no room: written to, a hole would be a SIGBUS."""
    try:
        if os.pwrite(fd, bytes(size), 0) != size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _free(folder: str) -> int:
    try:
        facts = os.statvfs(folder)
    except OSError:
        return 0
    return facts.f_bavail * facts.f_frsize
