"""wire/frames.py: cutting a stream of bytes into frames."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offloop.wire.frames import (
    HEADER_SIZE,
    NOT_WATCHED,
    VERSION,
    Flag,
    Frame,
    FrameReader,
    Kind,
    ProtocolError,
    pack_header,
)

WORD = st.integers(0, 2**64 - 1)
KINDS = sorted(value for name, value in vars(Kind).items() if not name.startswith("_"))


def deliver(reader: FrameReader, data: bytes, sizes: Iterable[int]) -> list[Frame]:
    """Feed bytes to a reader in reads of these sizes, as a socket would, and return all frames."""
    frames: list[Frame] = []
    offset, reads = 0, iter(sizes)
    while offset < len(data):
        while (frame := reader.next_frame()) is not None:
            frames.append(frame)
        view = reader.writable()
        assert len(view) > 0, "no room for bytes that must come"
        count = min(len(view), max(1, next(reads, 1 << 30)), len(data) - offset)
        view[:count] = data[offset : offset + count]
        reader.received(count)
        offset += count
    while (frame := reader.next_frame()) is not None:
        frames.append(frame)
    return frames


packed = st.tuples(
    st.sampled_from(KINDS),
    st.integers(0, 15),
    st.integers(0, 2**32 - 1) | WORD,
    WORD,
    WORD,
    WORD,
    WORD,
    WORD,
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=8, max_size=8),
    st.binary(max_size=300) | st.binary(min_size=900, max_size=1100),
)


@given(st.lists(packed, max_size=12), st.lists(st.integers(1, 400)), st.sampled_from([1, HEADER_SIZE, 200, 1 << 16]))
def test_any_split_gives_the_same_frames(
    messages: list[tuple[int, int, int, int, int, int, int, int, bytes, bytes, bytes]],
    sizes: list[int],
    capacity: int,
) -> None:
    """Frames arrive whole, equal and in order however the stream is cut into reads, empty payloads included."""
    stream = b"".join(pack_header(kind, len(payload), *fields) + payload for kind, *fields, payload in messages)
    reader = FrameReader(capacity)
    frames = deliver(reader, stream, sizes)
    assert reader.is_empty
    assert len(frames) == len(messages)
    for frame, (kind, flags, *numbers, trace_id, span_id, payload) in zip(frames, messages, strict=True):
        header = frame.header
        assert bytes(frame.payload) == payload
        assert (header.version, header.kind, header.flags, header.length) == (VERSION, kind, flags, len(payload))
        assert list(header[4:10]) == numbers
        assert (header.trace_id, header.span_id) == (trace_id, span_id)


@pytest.mark.parametrize("size", [(1 << 16) - HEADER_SIZE, 1 << 16, (1 << 20) - 1, 1 << 20, (3 << 20) + 17])
@pytest.mark.parametrize("read", [4096, 70_001, 1 << 30])
def test_large_payloads_arrive_equal(size: int, read: int) -> None:
    """Payloads around and beyond the buffer arrive equal, and so do the frames behind them."""
    payload = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    frame = pack_header(Kind.VALUES, size, epoch=3) + payload
    small = pack_header(Kind.TASK, 0)
    frames = deliver(FrameReader(), small + frame + small + frame, [read] * (4 * (2 * size // read + 4)))
    assert [f.header.kind for f in frames] == [Kind.TASK, Kind.VALUES, Kind.TASK, Kind.VALUES]
    assert all(f.payload == (payload if f.header.length else b"") for f in frames)


def test_a_large_payload_is_received_in_place() -> None:
    """Once the header of a large frame is read, the reader offers room for all the rest of the payload at once."""
    reader = FrameReader()
    header = pack_header(Kind.VALUES, 5 << 20)
    assert deliver(reader, header + b"ab", [HEADER_SIZE + 2]) == []
    assert len(reader.writable()) == (5 << 20) - 2


def test_payloads_are_the_receivers_own() -> None:
    """A payload stays as it is while later frames arrive."""
    reader = FrameReader(HEADER_SIZE)
    first = deliver(reader, pack_header(Kind.VALUES, 40) + b"a" * 40, [7] * 99)
    deliver(reader, pack_header(Kind.VALUES, 40) + b"b" * 40, [7] * 99)
    assert bytes(first[0].payload) == b"a" * 40


@given(st.binary(max_size=60), st.integers(1, HEADER_SIZE + 59))
def test_a_part_of_a_frame_is_not_empty(payload: bytes, cut: int) -> None:
    """A reader that holds a part of a frame says so: the lane must not be leased again then."""
    frame = pack_header(Kind.TASK, len(payload)) + payload
    reader = FrameReader()
    assert reader.is_empty
    part = frame[: min(cut, len(frame) - 1)]
    assert deliver(reader, part, []) == []
    assert not reader.is_empty
    assert len(deliver(reader, frame[len(part) :], [])) == 1
    assert reader.is_empty


@pytest.mark.parametrize("version", [0, VERSION + 1, 255])
def test_another_version_ends_the_lane(version: int) -> None:
    """A frame of another version is refused, not guessed at."""
    good = pack_header(Kind.HELLO, 0)
    with pytest.raises(ProtocolError, match=f"version {version}, not {VERSION}"):
        deliver(FrameReader(), good + bytes([version]) + good[1:], [])


def test_the_header_is_settled() -> None:
    """The layout of version 1 doesn't change by accident: little-endian, fields in this order."""
    header = pack_header(
        Kind.TASK,
        2,
        Flag.STAR,
        3,
        4,
        5,
        6,
        7,
        8,
        trace_id=bytes(range(16)),
        span_id=bytes(range(8)),
        longest_ns=9,
        stall_ns=10,
        gil_held_pct=11,
    )
    words = b"".join(number.to_bytes(8, "little") for number in (3, 4, 5, 6, 7, 8))
    assert VERSION == 1
    assert header == (
        bytes([1, Kind.TASK])
        + Flag.STAR.to_bytes(2, "little")
        + bytes(4)
        + words
        + bytes(range(16))
        + bytes(range(8))
        + (9).to_bytes(8, "little")
        + (10).to_bytes(8, "little")
        + bytes([11])
        + (2).to_bytes(8, "little")
    )


def test_a_header_says_what_was_not_watched() -> None:
    """Unless it is told, how the GIL was held is marked as not known, by a number that is no percentage."""
    reader = FrameReader()
    header = deliver(reader, pack_header(Kind.VALUES, 0), [])[0].header
    assert (header.longest_ns, header.stall_ns, header.gil_held_pct) == (0, 0, NOT_WATCHED)
    assert NOT_WATCHED > 100


def test_kinds_and_flags_are_distinct() -> None:
    """No two kinds share a number and no two flags share a bit."""
    flags = [value for name, value in vars(Flag).items() if not name.startswith("_")]
    assert len(set(KINDS)) == len(KINDS)
    assert sum(flags) == 2 ** len(flags) - 1


@settings(max_examples=50)
@given(WORD)
def test_lengths_are_eight_bytes(length: int) -> None:
    """A header can announce payloads of 2 GiB and more."""
    assert int.from_bytes(pack_header(Kind.VALUES, length)[-8:], "little") == length
