"""Memory files: bytes that one process writes once and others map, without a copy on their side.

A memory file has no name, so that nothing of it can outlive the processes that hold its descriptor, whatever ends them;
see storage.py for where it can't be so. Whoever receives one maps it copy-on-write: it may write to what it got, and nobody else ever sees that.
"""

from __future__ import annotations

import _thread
import mmap
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

if sys.platform == "linux":
    import fcntl

    _SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
else:
    _SEALS = 0  # nothing can be sealed

# From this size up mapping is quicker than copying out: 0.79 ms each at 1 MiB, first reading included.
MAP_BYTES = 1 << 20
_HUGE_BYTES = 4 << 20  # worth asking for huge pages: a copy of 256 MB took 44 ms instead of 195
_WRITE_BYTES = 1 << 30  # Linux writes no more than 2 GiB at a time
PAGE = mmap.ALLOCATIONGRANULARITY

# Whoever closes a file last waits until its memory is free, 58 ms for 400 MB, and that may be the event loop.
_SLOW_BYTES = 16 << 20

_MAX_MAPPED = 1 << 14  # a quarter of the mappings that Linux lets a process have as it comes (vm.max_map_count)

_ALIGNMENT = 64  # of what is copied out, as far as its offset is: a cache line, and the widest vector register

_TOO_SHORT = "a memory file is shorter than its sender said"

Buffers = Sequence[tuple[int, memoryview]]


class MemoryFile:
    """An open memory file; closed when nobody refers to it any more.

    A large one consists of several stripes, files of the same length but for the last, which can be written at once.

    Args:
        fds: Descriptors of its stripes, which it owns.
        stripe: Bytes in each stripe but the last.
        size: Bytes in all.
        path: Where it is, if it travels by its path.

    Attributes:
        fds: Descriptors of its stripes; none once it is closed.
        size: Bytes in it.
        path: Where it is; None if it has no name.
    """

    __slots__ = ("__weakref__", "_owner", "_stripe", "fds", "path", "size")

    def __init__(self, fds: Sequence[int], stripe: int, size: int, path: str | None = None) -> None:
        self.fds, self._stripe, self.size, self.path = tuple(fds), max(1, stripe), size, path
        self._owner = os.getpid() if path is not None else None  # of the name: a process forked from it leaves that alone

    def write(self, buffers: Buffers) -> None:
        """Write buffers, each at its offset, and make that final.

        Raises:
            OSError: There is no room for them.
        """
        if len(self.fds) == 1:
            _write(self.fds[0], buffers)
            return
        parts = [_cut(buffers, k * self._stripe, (k + 1) * self._stripe) for k in range(len(self.fds))]
        for fd in self.fds[:-1]:
            os.ftruncate(fd, self._stripe)  # a buffer may end before its stripe does: the receiver goes by the length
        _side_by_side([partial(_write, fd, part) for fd, part in zip(self.fds, parts, strict=True)])

    def view(self, offset: int, length: int) -> memoryview:
        """Return bytes of it, the caller's own: writable, seen by nobody else, aligned like `offset` up to a page.

        They are mapped where that is worth it, else copied out. Valid for as long as somebody refers to them, whatever
        becomes of the file. They hold no descriptor.

        Raises:
            MemoryError: There is no room for them.
            EOFError: The file is shorter than its sender said.
        """
        if length >= MAP_BYTES and offset + length <= self.size and len(_mapped) < _MAX_MAPPED:
            lead = offset % PAGE
            try:
                memory = fresh_memory(lead + length)
                self._map_over(memory, offset - lead)
            except (OSError, ImportError):  # no room for another mapping, or a Python without ctypes
                return self.read(offset, length)
            _mapped.add(memory.obj)
            return memory[lead:]
        return self.read(offset, length)

    def _map_over(self, memory: memoryview, offset: int) -> None:
        """Put a private mapping of the file in the place of memory; what frees the memory then ends the mapping.

        mmap.mmap would keep a descriptor for each mapping, and couldn't put stripes side by side.
        """
        import ctypes

        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for fd, begin, end, at in self._pieces(offset, len(memory)):
            _map_at(ctypes, start + at, end - begin, fd, begin)

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield for each stripe that bytes lie in: its descriptor, where they begin and end there, and their place."""
        for k in range(offset // self._stripe, -(-(offset + length) // self._stripe)):
            base = k * self._stripe
            begin, end = max(offset, base), min(offset + length, base + self._stripe)
            yield self.fds[k], begin - base, end - base, begin - offset

    def read(self, offset: int, length: int) -> memoryview:
        """Return a copy of bytes of it.

        Raises:
            MemoryError: There is no room for it.
            EOFError: It is shorter than its sender said.
        """
        if offset + length > self.size:
            raise EOFError(_TOO_SHORT)
        lead = offset % _ALIGNMENT
        memory = fresh_memory(lead + length)[lead:]
        for fd, begin, end, at in self._pieces(offset, length):
            done = begin
            while done < end:
                room = memory[at + done - begin : at + min(end, done + _WRITE_BYTES) - begin]
                count = os.preadv(fd, [room], done)
                if not count:
                    raise EOFError(_TOO_SHORT)
                done += count
        return memory

    def give_away(self) -> None:
        """Leave the file's name, if it has one, to whoever receives it."""
        self._owner = None

    def close(self) -> None:
        """Close it; what was mapped stays. Idempotent."""
        fds, self.fds = self.fds, ()
        if not fds:
            return
        if self._owner == os.getpid():
            try:
                os.unlink(self.path or "")
            except OSError:  # its folder is gone
                pass
        if self.size >= _SLOW_BYTES:
            try:
                _thread.start_new_thread(any, (map(os.close, fds),))  # no Python of its own, where an interrupt of the starter's could hit
            except RuntimeError:  # no more threads, or the interpreter is on its way out
                pass
            else:
                return
        _close(fds)

    def __del__(self) -> None:
        self.close()


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _cut(buffers: Buffers, begin: int, end: int) -> list[tuple[int, memoryview]]:
    """Return what of these buffers lies between two offsets, counted from the first."""
    parts = []
    for offset, buffer in buffers:
        first, last = max(begin, offset), min(end, offset + len(buffer))
        if first < last:
            parts.append((first - begin, buffer[first - offset : last - offset]))
    return parts


def _write(fd: int, buffers: Buffers) -> None:
    """Write buffers to a file, and seal it where that can be done.

    Writing fails where there is no room; a mapping that is written to would end the process then.
    """
    for offset, buffer in buffers:
        done = 0
        while done < len(buffer):
            done += os.pwrite(fd, buffer[done : done + _WRITE_BYTES], offset + done)
    if _SEALS:
        try:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        except OSError:  # not a file of this kind
            pass


def _side_by_side(works: Sequence[Callable[[], object]]) -> None:
    """Call these at the same time, as far as there are threads for that; raises what one of them raised."""
    errors: list[BaseException] = []

    def attempt(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads: list[threading.Thread] = []
    for work in works[1:]:
        thread = threading.Thread(target=attempt, args=(work,), name="offloop-write", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter is on its way out
            attempt(work)
        else:
            threads.append(thread)
    attempt(works[0])
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@cache
def _mapper(ctypes: Any) -> Any:
    function = ctypes.CDLL(None, use_errno=True).mmap
    function.restype = ctypes.c_void_p
    number = ctypes.c_int
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, number, number, number, ctypes.c_int64)
    return function


def _map_at(ctypes: Any, start: int, length: int, fd: int, offset: int) -> None:
    """Map bytes of a file, copy-on-write, in the place of what is mapped there; see mmap(2), MAP_FIXED."""
    flags = mmap.MAP_PRIVATE | _MAP_FIXED
    if _mapper(ctypes)(start, length, mmap.PROT_READ | mmap.PROT_WRITE, flags, fd, offset) != start:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


_MAP_FIXED = 0x10  # on every Unix


class Unmapped(MemoryFile):
    """A file whose sender could still shorten it, which would be a SIGBUS for whoever has mapped it: it is copied out."""

    __slots__ = ()

    def view(self, offset: int, length: int) -> memoryview:
        """Return a copy of bytes of it."""
        return self.read(offset, length)


def is_sealed(fd: int) -> bool:
    """Whether a file's length and its bytes can't be changed any more, by anybody."""
    try:
        return _SEALS != 0 and fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    except OSError:
        return False


_mapped: weakref.WeakSet[Any] = weakref.WeakSet()  # all that is mapped now


def fresh_memory(n_bytes: int) -> memoryview:
    """Return memory of its own, zeroed as it is used, in huge pages where the system lets it have them.

    Raises:
        MemoryError: There is no room for it.
    """
    try:
        memory = mmap.mmap(-1, max(1, n_bytes), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"no room for {n_bytes:,} bytes") from error
    if n_bytes >= _HUGE_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            memory.madvise(mmap.MADV_HUGEPAGE)
        except OSError:  # a kernel without them
            pass
    return memoryview(memory)[:n_bytes]
