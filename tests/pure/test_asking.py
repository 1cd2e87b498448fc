"""worker/asking.py and worker/channel.py: a question on its way, beside what else goes over the lane."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from offloop.wire.frames import Flag, FrameReader, Header, Kind, Reply, pack_header
from offloop.wire.pickling import dumps
from offloop.wire.status_page import SIZE, new_page
from offloop.wire.storage import Storage
from offloop.worker.asking import Questions
from offloop.worker.channel import Channel
from offloop.worker.output import Output

EPOCH = 5


class Lane:
    """Both ends of a lane, and the way of questions at the worker's."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.channel = Channel(self.far, Storage("memfd"))
        task = pack_header(Kind.TASK, 0, epoch=EPOCH)
        output = Output(self.channel, new_page(bytearray(SIZE)))
        self.questions = Questions(output, Header._make(frames_in(task)[0].header))
        self._reader = FrameReader()

    def answer(self, *before: bytes) -> Header:
        """Read a question, write these bytes and then an answer, which is the question; return its header."""
        while (frame := self._reader.next_frame()) is None:
            self._reader.received(self.near.recv_into(self._reader.writable()))
        payload = bytes([Reply.VALUE]) + bytes(frame.payload)
        header = pack_header(Kind.REPLY, len(payload), start=frame.header.start)
        self.near.sendall(b"".join((*before, header, payload)))
        return frame.header

    def close(self) -> None:
        self.near.close()
        self.far.close()


def frames_in(data: bytes) -> list[Any]:
    reader, frames = FrameReader(), []
    reader.writable()[: len(data)] = data
    reader.received(len(data))
    while (frame := reader.next_frame()) is not None:
        frames.append(frame)
    return frames


@pytest.fixture
def lane() -> Iterator[Lane]:
    lane = Lane()
    yield lane
    lane.close()


def answered(lane: Lane, *before: bytes, question: Any = "q", is_held: bool = False) -> tuple[Any, Header]:
    """Ask while another thread answers; return the answer and the question's header."""
    headers: list[Header] = []
    thread = threading.Thread(target=lambda: headers.append(lane.answer(*before)))
    thread.start()
    answer = lane.questions.ask(question, is_held)
    thread.join()
    return answer, headers[0]


def test_a_question_tells_its_chunk(lane: Lane) -> None:
    """The frame names the chunk, and whether nothing stops the item there."""
    answer, header = answered(lane)
    assert (answer, header.kind, header.epoch, header.flags) == ("q", Kind.CALL, EPOCH, 0)
    assert answered(lane, is_held=True)[1].flags == Flag.HELD


def test_what_comes_before_the_answer_is_kept(lane: Lane) -> None:
    """Frames of other work that come while an item waits are received after it, in their order, with their files."""
    descriptor = os.memfd_create("test")
    os.write(descriptor, b"content")
    socket.send_fds(lane.near, [pack_header(Kind.TASK, 4, epoch=EPOCH + 1, n_files=1)], [descriptor])
    os.close(descriptor)
    assert answered(lane, b"mine", pack_header(Kind.FORGET, 2), b"ab")[0] == "q"
    assert lane.channel._came is None
    task, came = lane.channel.receive(), lane.channel._came
    assert task is not None
    assert (task.header.kind, bytes(task.payload)) == (Kind.TASK, b"mine")
    assert isinstance(came, list)
    assert os.pread(came[0], 7, 0) == b"content"
    other = lane.channel.receive()
    assert other is not None
    assert (other.header.kind, bytes(other.payload)) == (Kind.FORGET, b"ab")
    assert lane.channel._came is None


def test_an_answer_to_another_question_is_dropped(lane: Lane) -> None:
    """An answer whose question was left is not taken for that of the next one."""
    stale = pack_header(Kind.REPLY, 1 + len(dumps("old")), start=0) + bytes([Reply.VALUE]) + dumps("old")
    assert answered(lane, stale)[0] == "q"


def test_the_end_of_the_lane(lane: Lane) -> None:
    """At the end of the lane there is no answer."""
    lane.near.close()
    assert lane.channel.receive_reply() is None


def test_large_frames_both_ways(lane: Lane) -> None:
    """While the worker writes a question the parent may be writing too, as long as it reads."""
    question = bytes(2_000_000)
    assert answered(lane, pack_header(Kind.TASK, 3_000_000), bytes(3_000_000), question=question)[0] == question
    kept = lane.channel.receive()
    assert kept is not None
    assert kept.header.length == 3_000_000
