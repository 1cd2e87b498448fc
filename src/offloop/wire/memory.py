"""Memory files: bytes that one process writes once and others map, without a copy on their side.

A memory file has no name, so that nothing of it can outlive the processes that hold its descriptor, whatever ends them.
Three kinds, by what the platform has:

    memory    memfd_create(2), sealed once it is written; the default on Linux
    file      an unlinked temporary file, in /dev/shm where that is; what `memory` falls back to
    portable  a private file in the session's own folder, which travels by its path: where no descriptor can be passed

Whoever receives one maps it copy-on-write: it may write to what it got, and nobody else ever sees that.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import mmap
import os
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

# From this size up mapping is quicker than copying out: 0.79 ms each at 1 MiB, first reading included; below it a
# descriptor or two would buy nothing.
MAP_BYTES = 1 << 20
_HUGE_BYTES = 4 << 20  # worth asking for huge pages: a copy of 256 MB took 44 ms instead of 195
_WRITE_BYTES = 1 << 30  # Linux writes no more than 2 GiB at a time
_PAGE = mmap.ALLOCATIONGRANULARITY

_MAX_MAPPED = 1024
_TRACKS_FD = sys.version_info < (3, 13)  # until then each mapping holds a descriptor of its own

KINDS = ("memory", "file", "portable")


class MemoryFile:
    """An open memory file; closed when nobody refers to it any more.

    Args:
        fd: Its descriptor, which it owns.
        size: Bytes in it.
        path: Where it is, if it travels by its path.

    Attributes:
        fd: Its descriptor.
        size: Bytes in it.
        path: Where it is; None if it has no name.
    """

    __slots__ = ("__weakref__", "_owns_path", "fd", "path", "size")

    def __init__(self, fd: int, size: int, path: str | None = None) -> None:
        self.fd, self.size, self.path = fd, size, path
        self._owns_path = path is not None

    def write(self, buffers: Sequence[tuple[int, memoryview]]) -> None:
        """Write buffers, each at its offset, and make that final.

        Raises:
            OSError: There is no room for them.
        """
        for offset, buffer in buffers:
            done = 0
            while done < len(buffer):
                done += os.pwrite(self.fd, buffer[done : done + _WRITE_BYTES], offset + done)
        try:
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)
        except (OSError, AttributeError):  # not a file of this kind
            pass

    def view(self, offset: int, length: int) -> memoryview:
        """Return bytes of it, the caller's own: writable, seen by nobody else, aligned like `offset` up to a page.

        They are mapped where that is worth it and descriptors are not scarce, else copied out. Valid for as long as
        somebody refers to them, whatever becomes of the file.
        """
        if length >= MAP_BYTES and len(_mapped) < _most_mapped():
            base = offset - offset % _PAGE
            try:
                mapping = mmap.mmap(
                    self.fd, length + offset - base, access=mmap.ACCESS_COPY, offset=base, **_NO_DESCRIPTOR
                )
            except (OSError, ValueError):  # no descriptor left, or no room for another mapping
                return self.read(offset, length)
            _mapped.add(mapping)
            return memoryview(mapping)[offset - base :]
        return self.read(offset, length)

    def read(self, offset: int, length: int) -> memoryview:
        """Return a copy of bytes of it.

        Raises:
            MemoryError: There is no room for it.
            EOFError: It is shorter than that.
        """
        lead = offset % 64
        memory = fresh_memory(lead + length)[lead:]
        done = 0
        while done < length:
            count = os.preadv(self.fd, [memory[done : done + _WRITE_BYTES]], offset + done)
            if not count:
                raise EOFError("a memory file is shorter than its sender said")
            done += count
        return memory

    def give_away(self) -> None:
        """Leave the file's name, if it has one, to whoever receives it."""
        self._owns_path = False

    def close(self) -> None:
        """Close it; what was mapped stays. Idempotent."""
        fd, self.fd = self.fd, -1
        if fd < 0:
            return
        os.close(fd)
        if self._owns_path:
            try:
                os.unlink(self.path or "")
            except OSError:  # its folder is gone
                pass

    def __del__(self) -> None:
        self.close()


class _Unmapped(MemoryFile):
    """A file whose sender could still shorten it, which would be a SIGBUS for whoever has mapped it: it is copied out."""

    __slots__ = ()

    def view(self, offset: int, length: int) -> memoryview:
        return self.read(offset, length)


_SEALS: int = (
    fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
    if hasattr(fcntl, "F_ADD_SEALS")
    else 0
)


def _is_sealed(fd: int) -> bool:
    """Whether a file's length and its bytes can't be changed any more, by anybody."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    except (OSError, AttributeError):
        return False


_NO_DESCRIPTOR: dict[str, Any] = {} if _TRACKS_FD else {"trackfd": False}
_mapped: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()  # all that is mapped now


def _most_mapped() -> int:
    """Return how much may be mapped at a time: a quarter of the descriptors that this process may have."""
    if not _TRACKS_FD:
        return 1 << 14  # a quarter of vm.max_map_count as it comes
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_MAPPED if soft == resource.RLIM_INFINITY else min(_MAX_MAPPED, soft // 4)


def fresh_memory(n_bytes: int) -> memoryview:
    """Return memory of its own, zeroed as it is used, in huge pages where the system lets it have them.

    Raises:
        MemoryError: There is no room for it.
    """
    try:
        memory = mmap.mmap(-1, max(1, n_bytes))
    except OSError as error:
        raise MemoryError(f"no room for {n_bytes:,} bytes") from error
    if n_bytes >= _HUGE_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            memory.madvise(mmap.MADV_HUGEPAGE)
        except OSError:  # a kernel without them
            pass
    return memoryview(memory)[:n_bytes]


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

    def store(self, buffers: Sequence[tuple[int, memoryview]], size: int) -> MemoryFile | None:
        """Write buffers, each at its offset, to a new file; None if there is no room for one in any way.

        What was begun in vain is gone. The last way out is the lane itself, which needs neither file nor descriptor.
        """
        for create in self._ways(size):
            try:
                file = create()
            except OSError:
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

    def received(self, fd: int) -> MemoryFile:
        """Return the file behind a descriptor that came over a lane."""
        return self._taken_in(fd)

    def opened(self, path: str) -> MemoryFile:
        """Open the file that came by its path. One that a worker sent has no name any more afterwards."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        if not self._trusts:
            os.unlink(path)
        return self._taken_in(fd)

    def _taken_in(self, fd: int) -> MemoryFile:
        kind = MemoryFile if self._trusts or _is_sealed(fd) else _Unmapped
        file = kind(fd, os.fstat(fd).st_size)
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
            if folder is None or (os.path.isdir(folder) and _free(folder) > size):
                yield partial(self._unlinked, folder, size)

    def _memfd(self, size: int) -> MemoryFile:
        return MemoryFile(os.memfd_create("offloop", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), size)

    def _unlinked(self, folder: str | None, size: int) -> MemoryFile:
        import tempfile

        with tempfile.TemporaryFile(dir=folder) as file:
            return MemoryFile(os.dup(file.fileno()), size)

    def _named(self, size: int) -> MemoryFile:
        assert self.folder is not None
        path = f"{self.folder}/{os.getpid()}-{id(self)}-{next(self._numbers)}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        return MemoryFile(fd, size, path)


_NO_ROOM = frozenset(
    {errno.ENOSPC, errno.ENOMEM, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EPERM}
)


def memory_file(name: str, size: int) -> int:
    """Return the descriptor of a file in memory, or of an unlinked one, that both sides may write to."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create(name, os.MFD_CLOEXEC)
    else:
        import tempfile

        with tempfile.TemporaryFile(prefix=name) as file:
            fd = os.dup(file.fileno())
    os.truncate(fd, size)
    return fd


def _free(folder: str) -> int:
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize
