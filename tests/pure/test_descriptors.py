"""wire/descriptors.py: descriptors that come with frames, and those that can't be received."""

from __future__ import annotations

import errno
import os
import resource
import socket
from array import array
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.wire.descriptors import Descriptors, LostDescriptor, send_with

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A lane: both ends."""
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def a_file(text: bytes) -> int:
    """Return the descriptor of a file that can be told apart."""
    fd = os.memfd_create("offloop-test")
    os.write(fd, text)
    return fd


def send(lane: socket.socket, data: bytes, *texts: bytes) -> None:
    """Send bytes with as many files."""
    fds = [a_file(text) for text in texts]
    assert send_with(lane, memoryview(data), fds) == len(data)
    for fd in fds:
        os.close(fd)


def texts(fds: list[int]) -> list[bytes]:
    """Return what is in files, and close them."""
    found = []
    for fd in fds:
        found.append(os.pread(fd, 100, 0))
        os.close(fd)
    return found


def receive(descriptors: Descriptors, lane: socket.socket, n_bytes: int, piece: int = 1 << 16) -> bytes:
    """Receive so many bytes, a piece at a time."""
    data = bytearray(n_bytes)
    view = memoryview(data)
    while view:
        view = view[descriptors.receive_into(lane, view[:piece]) :]
    return bytes(data)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_they_are_taken_in_order(pair: Pair) -> None:
    """Each frame that brought descriptors has its own, in the order of the frames; those without are passed over."""
    near, far = pair
    send(near, b"one", b"a")
    near.sendall(b"two")
    send(near, b"three", b"b")
    descriptors = Descriptors()
    assert receive(descriptors, far, 11) == b"onetwothree"
    assert texts(descriptors.take()) == [b"a"]
    assert texts(descriptors.take()) == [b"b"]


def test_several_come_with_one_frame(pair: Pair) -> None:
    """All descriptors of a frame are taken together, in the order in which they were sent."""
    near, far = pair
    send(near, b"frame", b"a", b"b", b"c", b"d")
    send(near, b"next", b"e")
    descriptors = Descriptors()
    receive(descriptors, far, 9)
    assert texts(descriptors.take()) == [b"a", b"b", b"c", b"d"]
    assert texts(descriptors.take()) == [b"e"]


@given(
    frames=st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.integers(0, 3)), max_size=6),
    piece=st.integers(1, 50),
)
def test_however_frames_are_cut(frames: list[tuple[bytes, int]], piece: int) -> None:
    """Whatever reads a frame comes in, its descriptors are the same."""
    near, far = socket.socketpair()
    descriptors = Descriptors()
    with near, far:
        for number, (data, count) in enumerate(frames):
            if count:
                send(near, data, *[f"{number}-{k}".encode() for k in range(count)])
            else:
                near.sendall(data)
        whole = b"".join(data for data, _ in frames)
        assert receive(descriptors, far, len(whole), piece) == whole
    for number, (_, count) in enumerate(frames):
        if count:
            assert texts(descriptors.take()) == [f"{number}-{k}".encode() for k in range(count)]
    with pytest.raises(LostDescriptor):
        descriptors.take()


def test_only_the_first_bytes_are_needed(pair: Pair) -> None:
    """They are there as soon as the first byte of their frame is."""
    near, far = pair
    send(near, b"frame", b"a")
    descriptors = Descriptors()
    receive(descriptors, far, 1)
    assert texts(descriptors.take()) == [b"a"]
    assert receive(descriptors, far, 4) == b"rame"


def test_they_are_not_inherited(pair: Pair) -> None:
    """What is received is closed in programs that this process starts."""
    near, far = pair
    send(near, b"x", b"a")
    descriptors = Descriptors()
    receive(descriptors, far, 1)
    (fd,) = descriptors.take()
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_the_end_brings_none(pair: Pair) -> None:
    """At the end of a lane nothing comes, and nothing is taken for a descriptor."""
    near, far = pair
    near.close()
    descriptors = Descriptors()
    assert descriptors.receive_into(far, memoryview(bytearray(9))) == 0
    with pytest.raises(LostDescriptor):
        descriptors.take()


def test_an_empty_lane_says_so(pair: Pair) -> None:
    """A lane that doesn't block raises what its socket raises."""
    pair[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        Descriptors().receive_into(pair[1], memoryview(bytearray(9)))


@pytest.mark.parametrize("n_free", [0, 1])
def test_without_room_they_are_lost(pair: Pair, n_free: int) -> None:
    """A process without descriptors left gets the bytes, and an error in the place of just those that it lost."""
    near, far = pair
    descriptors = Descriptors()
    send(near, b"one", b"a")
    receive(descriptors, far, 3)
    send(near, b"two", b"b", b"c", b"d")
    before = open_descriptors()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    filled = [os.dup(0) for _ in range(highest - before + 8)]  # no gaps below
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(filled) + 1 + n_free, limits[1]))
    try:
        assert receive(descriptors, far, 3) == b"two"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in filled:
            os.close(fd)
    send(near, b"three", b"e")
    receive(descriptors, far, 5)
    assert open_descriptors() == before + 1
    assert texts(descriptors.take()) == [b"a"]
    with pytest.raises(LostDescriptor, match="ulimit -n"):
        descriptors.take()
    assert texts(descriptors.take()) == [b"e"]


class Truncating:
    """A lane on which the system could pass only some of the descriptors."""

    def __init__(self, fds: list[int]) -> None:
        self.fds = fds

    def recvmsg_into(self, views: list[memoryview], room: int, flags: int) -> Any:
        """Bring a byte, the descriptors, and a part of one more."""
        data = array("i", self.fds).tobytes() + b"\0"
        return 1, [(socket.SOL_SOCKET, socket.SCM_RIGHTS, data)], socket.MSG_CTRUNC, None


def test_what_came_of_a_lost_frame_is_closed() -> None:
    """Of a frame whose descriptors came only in part none is kept."""
    fds = [a_file(b"a"), a_file(b"b")]
    descriptors = Descriptors()
    assert descriptors.receive_into(Truncating(fds), memoryview(bytearray(1))) == 1  # type: ignore[arg-type]
    for fd in fds:
        with pytest.raises(OSError) as caught:
            os.fstat(fd)
        assert caught.value.errno == errno.EBADF
    with pytest.raises(LostDescriptor):
        descriptors.take()


def test_what_nobody_takes_is_closed(pair: Pair) -> None:
    """Closing closes what came and wasn't taken, lost ones or not, once; what was taken stays open."""
    near, far = pair
    before = open_descriptors()
    descriptors = Descriptors()
    for data in (b"1", b"2"):
        send(near, data, b"a", b"b")
    receive(descriptors, far, 2)
    descriptors.receive_into(Truncating([]), memoryview(bytearray(1)))  # type: ignore[arg-type]
    taken = descriptors.take()
    descriptors.close()
    descriptors.close()
    assert open_descriptors() == before + 2
    assert texts(taken) == [b"a", b"b"]


def test_only_what_was_sent_is_told(pair: Pair) -> None:
    """Where a lane takes only a part of the bytes, how many is told, and the descriptors have gone along."""
    near, far = pair
    near.setblocking(False)
    data = bytes(4 << 20)
    fd = a_file(b"a")
    sent = send_with(near, memoryview(data), [fd])
    os.close(fd)
    assert 0 < sent < len(data)
    descriptors = Descriptors()
    receive(descriptors, far, sent)
    assert texts(descriptors.take()) == [b"a"]
