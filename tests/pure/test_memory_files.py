"""wire/memory.py: bytes that are written once and read, mapped or copied out, by others."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workloads as w
from offloop.wire import memory
from offloop.wire import storage as of_storage
from offloop.wire.memory import MemoryFile, fresh_memory
from offloop.wire.storage import KINDS, Storage, memory_file

PAGE = mmap.ALLOCATIONGRANULARITY
STRIPES = 4


@contextmanager
def small_units(n_stripes: int = STRIPES) -> Iterator[None]:
    """Have files of a few pages consist of several stripes, and be mapped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_storage, "_STRIPE_BYTES", PAGE)
        patch.setattr(of_storage, "_cores", lambda: n_stripes)
        patch.setattr(memory, "MAP_BYTES", PAGE)
        yield


@pytest.fixture
def small() -> Iterator[None]:
    """Have files of a few pages consist of several stripes, and be mapped."""
    with small_units():
        yield


@pytest.fixture(params=KINDS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """A storage of each kind."""
    made = Storage(request.param, str(tmp_path))
    yield made
    made.close()


def pattern(n_bytes: int, seed: int = 0) -> bytes:
    """Return bytes that differ from page to page."""
    return (np.arange(seed, seed + n_bytes, dtype="u4") * 2654435761 >> 13).astype("u1").tobytes()


def stored(storage: Storage, *buffers: bytes, size: int | None = None) -> MemoryFile:
    """Store buffers one behind another."""
    placed, end = [], 0
    for buffer in buffers:
        placed.append((end, memoryview(buffer)))
        end += len(buffer)
    file = storage.store(placed, end if size is None else size)
    assert file is not None
    return file


def taken_in(storage: Storage, file: MemoryFile) -> MemoryFile:
    """Take in a file as the other side does."""
    if file.path is not None:
        return storage.opened(file.path)
    return storage.received([os.dup(fd) for fd in file.fds])


def address(view: memoryview) -> int:
    return int(np.frombuffer(view, "u1").__array_interface__["data"][0])


def mapped_from(view: memoryview) -> str:
    """Return the path of the file that a view is mapped from; empty if it is not."""
    return w.mapped_from(np.frombuffer(view, "u1"))


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def raising(number: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


# --- reading what was written ----------------------------------------------------------------------------------------

SIZES = st.integers(1, 300) | st.integers(PAGE - 70, PAGE + 70) | st.integers(1, 5 * PAGE)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[list[tuple[int, memoryview]], bytes]:
    """Draw buffers with their offsets, side by side or with gaps, and what is in the file then."""
    buffers: list[tuple[int, memoryview]] = []
    whole = bytearray()
    alignment = draw(st.sampled_from([1, 64]))
    for seed, size in enumerate(draw(st.lists(SIZES, min_size=1, max_size=5))):
        whole += bytes(-len(whole) % alignment)
        buffers.append((len(whole), memoryview(pattern(size, seed))))
        whole += buffers[-1][1]
    return buffers, bytes(whole)


@settings(max_examples=150)
@given(
    layout=layouts(),
    kind=st.sampled_from(("memory", "file")),
    n_stripes=st.integers(1, STRIPES),
    trusts=st.booleans(),
    data=st.data(),
)
def test_any_bytes_are_read_as_they_were_written(
    layout: tuple[list[tuple[int, memoryview]], bytes], kind: str, n_stripes: int, trusts: bool, data: st.DataObject
) -> None:
    """Buffers at any offsets are found there again, in any pieces, by the writer and by the receiver."""
    buffers, whole = layout
    with small_units(n_stripes):
        file = Storage(kind).store(buffers, len(whole))
        assert file is not None
        came = taken_in(Storage(kind, trusts=trusts), file)
        assert file.size == len(whole)
        for offset, buffer in buffers:
            assert came.view(offset, len(buffer)) == buffer
        for side in (file, came):
            begin = data.draw(st.integers(0, len(whole)))
            end = data.draw(st.integers(begin, len(whole)))
            assert side.view(begin, end - begin) == whole[begin:end]
            assert side.read(begin, end - begin) == whole[begin:end]


def test_stripes_whose_last_bytes_nobody_wrote(small: None) -> None:
    """A gap between two buffers at the very end of a stripe doesn't move what lies behind it."""
    first, second = pattern(2 * PAGE - 10), pattern(2 * PAGE - 10, 1)
    file = Storage("memory").store([(0, memoryview(first)), (2 * PAGE, memoryview(second))], 4 * PAGE - 10)
    assert file is not None
    assert taken_in(Storage("memory"), file).view(2 * PAGE, len(second)) == second


def test_a_large_file_is_in_stripes(small: None) -> None:
    """What is worth it is written to several files at once, what is small to one."""
    storage = Storage("memory")
    assert len(stored(storage, pattern(5 * PAGE)).fds) == STRIPES
    assert len(stored(storage, pattern(PAGE)).fds) == 1


def test_what_is_in_one_stripe_is_there_before_it_is_stored(storage: Storage) -> None:
    """Nothing of a file that is full to the last byte is lost, however large its pieces."""
    whole = pattern(3 << 20)
    came = taken_in(storage, stored(storage, whole))
    assert came.size == len(whole)
    assert came.view(0, len(whole)) == whole


def test_writes_in_pieces(monkeypatch: pytest.MonkeyPatch, storage: Storage) -> None:
    """What is more than the system writes or reads at a time goes in several pieces."""
    monkeypatch.setattr(memory, "_WRITE_BYTES", 1000)
    whole = pattern(PAGE + 17)
    assert taken_in(storage, stored(storage, whole)).read(5, PAGE) == whole[5 : PAGE + 5]


def test_a_file_that_is_too_short_says_so(storage: Storage) -> None:
    """Whoever reads what a sender only claimed to have written gets an error, not zeros."""
    file = stored(storage, pattern(100))
    came = taken_in(Storage(storage.kind, trusts=True), file)
    with pytest.raises(EOFError):
        came.view(50, 51)


# --- views -----------------------------------------------------------------------------------------------------------


def test_views_are_private(small: None, storage: Storage) -> None:
    """What is written to a view is seen by no other view, not by the file, and not by another process's."""
    whole = pattern(9 * PAGE)
    file = stored(storage, whole)
    came = taken_in(Storage(storage.kind, storage.folder, trusts=True), file)
    views = [side.view(PAGE + 3, 7 * PAGE) for side in (file, file, came, came)]
    for number, view in enumerate(views):
        view[:] = bytes([number]) * len(view)
    assert [bytes(view) for view in views] == [bytes([number]) * 7 * PAGE for number in range(4)]
    assert came.view(0, 9 * PAGE) == file.read(0, 9 * PAGE) == whole


@pytest.mark.parametrize("length", [100, 6 * PAGE], ids=["copied", "mapped"])
def test_views_outlive_their_file(small: None, storage: Storage, length: int) -> None:
    """A view is valid for as long as somebody refers to it, and holds no descriptor."""
    whole = pattern(9 * PAGE)
    before = open_descriptors()
    file = stored(storage, whole)
    views = [file.view(offset, length) for offset in (0, 70, 2 * PAGE + 64)]
    file.close()
    storage.close()
    assert open_descriptors() == before
    assert [bytes(view) for view in views] == [whole[at : at + length] for at in (0, 70, 2 * PAGE + 64)]
    views[0][:] = bytes(length)
    assert bytes(views[1]) == whole[70 : 70 + length]


def test_a_mapping_ends_with_its_view(small: None) -> None:
    """Once nobody refers to a view any more, nothing of it is mapped."""
    file = stored(Storage("memory"), pattern(9 * PAGE))
    view = file.view(100, 8 * PAGE)
    where = address(view)
    part = view[5:]
    assert "memfd" in mapped_from(view)
    del view
    assert "memfd" in mapped_from(part)
    del part
    gc.collect()
    with open("/proc/self/maps") as maps:
        spans = [line.split("-", 1) for line in maps if "memfd:offloop" in line]
    assert not [begin for begin, rest in spans if int(begin, 16) <= where < int(rest.split()[0], 16)]


@pytest.mark.parametrize("offset", [0, 64, 192, PAGE, PAGE + 64, 3 * PAGE + 4032])
@pytest.mark.parametrize("length", [1, 64, 3 * PAGE], ids=["a byte", "a line", "mapped"])
def test_views_are_aligned(small: None, storage: Storage, offset: int, length: int) -> None:
    """Bytes at a multiple of 64 in the file are at a multiple of 64 in memory; those that are mapped, like their page."""
    file = stored(storage, pattern(8 * PAGE))
    unit = PAGE if length >= PAGE else 64
    assert address(file.view(offset, length)) % unit == offset % unit


def test_small_views_are_copied(storage: Storage) -> None:
    """A mapping is made only where it is quicker than a copy."""
    file = stored(storage, pattern(2 * memory.MAP_BYTES))
    assert not mapped_from(file.view(0, memory.MAP_BYTES - 1))
    assert mapped_from(file.view(0, memory.MAP_BYTES))


def test_only_so_many_views_are_mapped(monkeypatch: pytest.MonkeyPatch, small: None) -> None:
    """Views beyond the limit of mappings are copied, so that a process is left some; mapped again once others end."""
    file, whole = stored(Storage("memory"), pattern(3 * PAGE)), pattern(3 * PAGE)
    first = file.view(0, 2 * PAGE)
    monkeypatch.setattr(memory, "_MAX_MAPPED", len(memory._mapped))
    second = file.view(0, 2 * PAGE)
    assert (bool(mapped_from(first)), bool(mapped_from(second))) == (True, False)
    assert first == second == whole[: 2 * PAGE]
    del first
    assert mapped_from(file.view(0, 2 * PAGE))


def test_what_cannot_be_mapped_is_copied(monkeypatch: pytest.MonkeyPatch, small: None) -> None:
    """Where the system has no room for another mapping, also halfway through the stripes, bytes are copied out."""
    whole = pattern(8 * PAGE)
    file, really = stored(Storage("memory"), whole), memory._map_at
    left = [2]

    def map_at(*args: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raising(errno.ENOMEM)()
        really(*args)

    monkeypatch.setattr(memory, "_map_at", map_at)
    view = file.view(10, 7 * PAGE)
    assert not mapped_from(view)
    assert view == whole[10 : 10 + 7 * PAGE]


@pytest.mark.parametrize("n_bytes", [0, 1, PAGE, 5 << 20])
def test_fresh_memory_is_zeroed(n_bytes: int) -> None:
    """Fresh memory has the length asked for, is writable, and nothing is in it."""
    fresh = fresh_memory(n_bytes)
    assert (len(fresh), fresh.readonly, any(fresh[:: PAGE // 2])) == (n_bytes, False, False)


def test_no_room_is_a_memory_error() -> None:
    """Memory that can't be had is a MemoryError that says how much was wanted."""
    with pytest.raises(MemoryError, match=f"{1 << 60:,} bytes"):
        fresh_memory(1 << 60)


# --- seals and trust -------------------------------------------------------------------------------------------------

HARM: dict[str, Callable[[int], object]] = {
    "write": lambda fd: os.pwrite(fd, b"x", 0),
    "shrink": lambda fd: os.ftruncate(fd, 1),
    "grow": lambda fd: os.ftruncate(fd, 1 << 20),
    "write at the end": lambda fd: os.pwrite(fd, b"x", 1 << 20),
    "map to write": lambda fd: mmap.mmap(fd, PAGE, mmap.MAP_SHARED),
}


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM)
def test_what_is_stored_is_final(small: None, harm: Callable[[int], object]) -> None:
    """Nobody can change a memory file any more once it is written: neither its bytes nor its length."""
    file = stored(Storage("memory"), pattern(8 * PAGE))
    for fd in file.fds:
        with pytest.raises(PermissionError):
            harm(fd)


@pytest.mark.parametrize("trusts", [False, True])
def test_what_can_be_shortened_is_copied(small: None, trusts: bool) -> None:
    """Of a sender that isn't trusted only sealed files are mapped: a SIGBUS in this process is not for it to cause."""
    fd = memory_file("offloop-test", 4 * PAGE)
    other = os.dup(fd)
    came = Storage("memory", trusts=trusts).received([fd])
    view = came.view(0, 4 * PAGE)
    assert bool(mapped_from(view)) is trusts
    if not trusts:
        os.ftruncate(other, 0)
        assert view == bytes(4 * PAGE)
        with pytest.raises(EOFError):
            came.view(0, 4 * PAGE)
    os.close(other)


def test_one_stripe_without_a_seal_is_enough(small: None) -> None:
    """A file is mapped only if all of its stripes are sealed."""
    file = stored(Storage("memory"), pattern(PAGE))
    sealed = file.fds[0]
    fds = [os.dup(sealed), memory_file("offloop-test", PAGE)]
    assert not mapped_from(Storage("memory").received(fds).view(0, 2 * PAGE))
    assert mapped_from(Storage("memory").received([os.dup(sealed), os.dup(sealed)]).view(0, 2 * PAGE))


@pytest.mark.parametrize("seals", [0, "part"])
def test_some_seals_are_not_all(small: None, seals: Any) -> None:
    """A file that can't grow may still shrink, so it counts as unsealed."""
    import fcntl

    fd = os.memfd_create("offloop-test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 2 * PAGE)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, (fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE) if seals else 0)
    assert not mapped_from(Storage("memory").received([fd]).view(0, 2 * PAGE))


# --- where they are --------------------------------------------------------------------------------------------------


def places(file: MemoryFile) -> list[str]:
    return [os.readlink(f"/proc/self/fd/{fd}") for fd in file.fds]


def test_each_kind_is_where_it_should_be(storage: Storage) -> None:
    """Only the portable kind has a name; the others can't outlive whoever holds them."""
    file = stored(storage, pattern(100))
    (place,) = places(file)
    assert place.startswith(
        {"memory": "/memfd:offloop", "file": "/dev/shm/", "portable": str(storage.folder)}[storage.kind]
    )
    assert (file.path is None) is (storage.kind != "portable") is place.endswith("(deleted)")


def test_a_named_file_is_private(tmp_path: Path) -> None:
    """A named file can be read by its owner alone, and two never have the same name."""
    storages = [Storage("portable", str(tmp_path)) for _ in range(2)]
    files = [stored(storage, b"x") for storage in storages for _ in range(3)]
    assert len({file.path for file in files}) == 6
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_name_goes_with_its_file(tmp_path: Path) -> None:
    """The owner of a named file removes the name when it closes the file, and when nobody refers to it any more."""
    storage = Storage("portable", str(tmp_path))
    file = stored(storage, pattern(100))
    file.close()
    assert not list(tmp_path.iterdir())
    file = stored(storage, pattern(100))
    assert len(list(tmp_path.iterdir())) == 1
    del file
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_given_away_stays(tmp_path: Path) -> None:
    """Once a file is given away its name is the receiver's, who removes it while taking it in."""
    storage = Storage("portable", str(tmp_path))
    file = stored(storage, pattern(100))
    file.give_away()
    file.close()
    assert [str(path) for path in tmp_path.iterdir()] == [file.path]
    came = Storage("portable", str(tmp_path)).opened(file.path or "")
    assert not list(tmp_path.iterdir())
    assert came.view(0, 100) == pattern(100)


def test_a_receiver_that_trusts_leaves_the_name(tmp_path: Path) -> None:
    """What a parent has stored may be opened by several workers, so none of these removes the name."""
    file = stored(Storage("portable", str(tmp_path)), pattern(100))
    for _ in range(2):
        came = Storage("portable", str(tmp_path), trusts=True).opened(file.path or "")
        assert came.view(0, 100) == pattern(100)
        came.close()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A name that somebody has replaced by a link is refused, and what it leads to is left alone."""
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        Storage("portable", str(tmp_path)).opened(str(tmp_path / "link"))
    assert (tmp_path / "secret").read_bytes() == b"x"


def test_closing_without_a_folder(tmp_path: Path) -> None:
    """A named file is closed also after its folder is gone."""
    (tmp_path / "folder").mkdir()
    file = stored(Storage("portable", str(tmp_path / "folder")), b"x")
    os.unlink(file.path or "")
    (tmp_path / "folder").rmdir()
    file.close()
    assert file.fds == ()


def test_closing_is_idempotent(small: None, storage: Storage) -> None:
    """A second close closes nothing that has got the descriptor's number since."""
    file = stored(storage, pattern(5 * PAGE))
    numbers = file.fds
    file.close()
    pairs = [os.pipe() for _ in numbers]
    file.close()
    for fd in (fd for pair in pairs for fd in pair):
        os.fstat(fd)
        os.close(fd)


def test_a_storage_closes_what_is_left(small: None, storage: Storage) -> None:
    """Closing a storage closes all that it stored and took in, whoever still refers to these files."""
    before = open_descriptors()
    file = stored(storage, pattern(5 * PAGE))
    files = [file, taken_in(Storage(storage.kind, storage.folder, trusts=True), file)]
    came = storage.received([os.dup(file.fds[0])])
    storage.close()
    assert (file.fds, came.fds) == ((), ())
    files[1].close()
    assert open_descriptors() == before


# --- where there is no room ------------------------------------------------------------------------------------------

NO_ROOM = [errno.ENOSPC, errno.ENOMEM, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EPERM]
REFUSED = [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EPERM, errno.ENOSYS]


def names(numbers: list[int]) -> list[str]:
    return [errno.errorcode[number] for number in numbers]


@pytest.mark.parametrize("number", REFUSED, ids=names(REFUSED))
def test_without_memfd_an_unlinked_file(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Where memfd_create is refused, for whatever reason, an unlinked file in /dev/shm takes its place."""
    monkeypatch.setattr(os, "memfd_create", raising(number))
    assert places(stored(Storage("memory"), pattern(100)))[0].startswith("/dev/shm/")


def test_a_platform_without_memfd(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that has no memfd_create stores as well."""
    monkeypatch.delattr(os, "memfd_create")
    file = stored(Storage("memory"), pattern(100))
    assert places(file)[0].startswith("/dev/shm/")
    fd = memory_file("offloop-test", 3 * PAGE)
    assert os.fstat(fd).st_size == 3 * PAGE
    os.close(fd)


def test_without_room_in_memory_a_file_on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where /dev/shm has no room for all of it, the file is in the folder for temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(of_storage, "_free", lambda _: 100)
    assert places(stored(Storage("file"), pattern(99)))[0].startswith("/dev/shm/")
    assert places(stored(Storage("file"), pattern(100)))[0].startswith(str(tmp_path))


@pytest.mark.parametrize("number", NO_ROOM, ids=names(NO_ROOM))
def test_the_ways_are_tried_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int) -> None:
    """A way on which writing finds no room is followed by the next; the last one is none, and nothing is left of any."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    really, full = os.pwrite, []

    def pwrite(fd: int, data: Any, offset: int) -> int:
        if os.readlink(f"/proc/self/fd/{fd}").startswith(tuple(full)):
            raising(number)()
        return really(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    before = open_descriptors()
    for place in ("/memfd:", "/dev/shm/", str(tmp_path)):
        file = stored(Storage("memory"), pattern(100))
        assert places(file)[0].startswith(place)
        assert file.view(0, 100) == pattern(100)
        file.close()
        assert open_descriptors() == before
        full.append(place)
    assert Storage("memory").store([(0, memoryview(b"x"))], 1) is None
    assert open_descriptors() == before


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "in the middle"])
def test_nothing_is_left_of_what_could_not_be_written(
    monkeypatch: pytest.MonkeyPatch, small: None, storage: Storage, tmp_path: Path, at_once: bool
) -> None:
    """A file for which there is no room is gone, name and descriptors, also if a part of it was written."""
    really, n_calls = os.pwrite, [0]

    def pwrite(fd: int, data: Any, offset: int) -> int:
        n_calls[0] += 1
        if at_once or n_calls[0] % 2 == 0:
            raising(errno.ENOSPC)()
        return really(fd, data[: len(data) // 2], offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    before = open_descriptors()
    assert storage.store([(0, memoryview(pattern(8 * PAGE)))], 8 * PAGE) is None
    assert open_descriptors() == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.EFAULT], ids=["EINVAL", "EBADF", "EFAULT"])
def test_other_errors_are_raised(
    monkeypatch: pytest.MonkeyPatch, storage: Storage, tmp_path: Path, number: int
) -> None:
    """What is not for want of room is a defect, so it is raised and not hidden by the next way; nothing is left."""
    monkeypatch.setattr(os, "pwrite", raising(number))
    before = open_descriptors()
    with pytest.raises(OSError) as caught:
        storage.store([(0, memoryview(b"x"))], 1)
    assert caught.value.errno == number
    assert open_descriptors() == before
    assert not list(tmp_path.iterdir())


def test_the_second_stripe_cannot_be_had(monkeypatch: pytest.MonkeyPatch, small: None) -> None:
    """If descriptors run out between two stripes the first is closed, and the next way is tried."""
    really, n_calls = os.memfd_create, [0]

    def memfd_create(*args: Any) -> int:
        n_calls[0] += 1
        return really(*args) if n_calls[0] == 1 else raising(errno.EMFILE)()

    monkeypatch.setattr(os, "memfd_create", memfd_create)
    before = open_descriptors()
    file = stored(Storage("memory"), pattern(8 * PAGE))
    assert n_calls[0] == 2
    assert places(file)[0].startswith("/dev/shm/")
    assert open_descriptors() == before + 1


def test_a_process_without_descriptors(storage: Storage) -> None:
    """Where the process really has no descriptor left, nothing is stored and nothing is raised; afterwards it goes on."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        assert storage.store([(0, memoryview(b"x"))], 1) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert stored(storage, b"x").view(0, 1) == b"x"


def test_a_process_that_may_write_no_large_files(small: None, storage: Storage) -> None:
    """Under a real limit of file sizes that is too low (ulimit -f) nothing is stored, and nothing is raised."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PAGE, limits[1]))
    try:
        assert storage.store([(0, memoryview(pattern(9 * PAGE)))], 9 * PAGE) is None
        assert stored(storage, pattern(PAGE)).view(0, PAGE) == pattern(PAGE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
