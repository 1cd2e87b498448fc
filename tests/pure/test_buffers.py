"""wire/buffers.py: values that travel with their large buffers apart, and segments that several messages refer to."""

from __future__ import annotations

import gc
import os
import pickle
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offloop.wire import buffers as module
from offloop.wire.buffers import (
    BUFFER_BYTES,
    FILE_BYTES,
    OWN,
    Message,
    Packer,
    Part,
    Received,
    Ref,
    Segment,
    Unreadable,
    address,
    alive,
    forget,
    keep,
    kept,
    load_segment,
    no_buffers,
    rebuild,
)
from offloop.wire.memory import MemoryFile
from offloop.wire.pickling import loads
from offloop.wire.storage import KINDS, Storage


@pytest.fixture(params=[*KINDS, "payload"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage | None]:
    """A storage of each kind; none where buffers go with the message."""
    if request.param == "payload":
        yield None
        return
    made = Storage(request.param, str(tmp_path))
    yield made
    made.close()


MEMORY = Storage("memory")


def floats(n_bytes: int, seed: int = 0) -> Any:
    return np.arange(seed, seed + n_bytes // 8, dtype="f8")


def travelled(message: Message) -> Received:
    """Take in a message as the far side does."""
    payload = b"".join(bytes(piece) for piece in message.payload())

    def open_file(path: str | None) -> MemoryFile | None:
        if message.file is None:
            return None
        if path is not None:
            return Storage("portable", trusts=True).opened(path)
        return MEMORY.received([os.dup(fd) for fd in message.file.fds])

    return Received(payload, open_file)


def there_and_back(values: list[Any], storage: Storage | None = MEMORY) -> list[Any]:
    packer = packed(values)
    return list(travelled(packer.message(packer.store(storage) if storage is not None else None)))


def packed(items: list[Any], **options: Any) -> Packer:
    packer = Packer(**options)
    for value in items:
        packer.add(value)
    return packer


def are_equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(are_equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(are_equal(one[key], other[key]) for key in one)
    return type(one) is type(other) and bool(one == other)


# --- there and back --------------------------------------------------------------------------------------------------

BASE = floats(4 * FILE_BYTES)
SIZES = [8, 1000, BUFFER_BYTES - 8, BUFFER_BYTES, BUFFER_BYTES + 8, FILE_BYTES, FILE_BYTES + 24]
LEAVES = st.one_of(
    *(st.integers(), st.text(max_size=5), st.none()),
    st.builds(floats, st.sampled_from(SIZES), st.integers(0, 9)),
    st.builds(lambda n: bytes(range(256)) * (n // 256) + b"x" * (n % 256), st.sampled_from(SIZES)),
    st.builds(lambda n: bytearray(b"ab") * (n // 2), st.sampled_from(SIZES)),
    st.builds(lambda at, n: BASE[at : at + n // 8], st.integers(0, 99), st.sampled_from(SIZES)),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3)
    | st.tuples(inner, inner)
    | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    | inner.map(lambda value: [value, value]),
    max_leaves=6,
)


@settings(max_examples=60)
@given(values=st.lists(VALUES, max_size=4), has_file=st.booleans())
def test_values_travel(values: list[Any], has_file: bool) -> None:
    """Whatever is nested in what, with buffers of any size and with the same ones several times, arrives equal."""
    assert are_equal(there_and_back(values, MEMORY if has_file else None), values)


@pytest.mark.parametrize("n_bytes", SIZES)
def test_what_is_one_within_a_value_stays_one(storage: Storage | None, n_bytes: int) -> None:
    """The same array twice in one value is one array on the far side."""
    array = floats(n_bytes)
    [(one, [other])] = there_and_back([(array, [array])], storage)
    assert one is other
    one[0] = 77
    assert (other[0], array[0]) == (77, 0)


@pytest.mark.parametrize("n_bytes", SIZES)
def test_values_share_no_memory(storage: Storage | None, n_bytes: int) -> None:
    """The same array in two values is two arrays on the far side: what is written into one stays there."""
    array = floats(n_bytes)
    one, other = there_and_back([array, {"key": array}], storage)
    one[:] = 77
    assert are_equal(other, {"key": floats(n_bytes)})
    other["key"][:] = 88
    assert set(one) == {77}
    assert are_equal(array, floats(n_bytes))


def test_a_message_is_rebuilt_as_often_as_asked() -> None:
    """Each time that values are rebuilt they are as they were sent, whatever was written into them before."""
    packer = packed([floats(FILE_BYTES)])
    received = travelled(packer.message(packer.store(MEMORY)))
    for _ in range(2):
        [array] = received
        assert are_equal(array, floats(FILE_BYTES))
        array[:] = 9


def test_values_outlive_their_message(storage: Storage | None) -> None:
    """What was rebuilt is valid after the message and its file are gone."""
    made = floats(20 * FILE_BYTES)
    [array] = there_and_back([made], storage)
    gc.collect()
    assert are_equal(array, made)
    array[:] = 0


# --- what is stored --------------------------------------------------------------------------------------------------


def test_a_buffer_that_stands_twice_is_stored_once() -> None:
    """The same memory takes its room once, in whatever values and objects it stands."""
    array = floats(FILE_BYTES)
    packer = packed([array, [array, array[:]], {"key": array.reshape(2, -1)}])
    assert packer.n_bytes == FILE_BYTES
    assert [span.n_bytes for span in packer.spans] == [FILE_BYTES]
    assert len(packer.parts) == 3


def test_equal_buffers_are_stored_each() -> None:
    """Equal bytes at different places are different buffers."""
    assert packed([floats(FILE_BYTES), floats(FILE_BYTES)]).n_bytes == 2 * FILE_BYTES


def test_parts_of_a_buffer_are_stored_by_themselves() -> None:
    """Two views that overlap are two buffers: each is found by its address and its length."""
    array = floats(2 * FILE_BYTES)
    packer = packed([array, array[: FILE_BYTES // 8], array])
    assert packer.n_bytes == 3 * FILE_BYTES


@pytest.mark.parametrize("n_bytes", [1000, BUFFER_BYTES - 1000])
def test_small_buffers_stay_in_the_pickle(n_bytes: int) -> None:
    """What is small needs neither a file nor a reference."""
    packer = packed([floats(n_bytes), bytes(n_bytes)])
    assert (packer.has_buffers, packer.n_bytes, packer.store(MEMORY)) == (False, 0, None)


@given(st.lists(st.integers(BUFFER_BYTES, BUFFER_BYTES + 200), min_size=1, max_size=5))
def test_buffers_begin_at_a_cache_line(sizes: list[int]) -> None:
    """Each buffer begins at a multiple of 64, in the file and in the memory of who receives it, and none overlap."""
    arrays = [np.full(size, number, "u1") for number, size in enumerate(sizes)]
    packer = packed(arrays)
    spans = sorted(packer.spans, key=lambda span: span.offset)
    assert all(span.offset % 64 == 0 for span in spans)
    assert all(one.offset + one.n_bytes <= other.offset for one, other in pairwise(spans))
    for storage in (MEMORY, None):
        for array in travelled(packer.message(packer.store(storage) if storage else None)):
            assert array.__array_interface__["data"][0] % 64 == 0


def test_what_is_found_is_not_stored() -> None:
    """A buffer that lies in a segment already is referred to there, and the message says which segments it needs."""
    array = floats(FILE_BYTES)
    there = packed([array])
    file = there.store(MEMORY)
    assert file is not None
    segment = Segment(file)
    start = address(memoryview(array))

    def find(at: int, n_bytes: int) -> tuple[Segment, int] | None:
        inside = start <= at and at + n_bytes <= start + array.nbytes
        return (segment, at - start) if inside else None

    other = floats(BUFFER_BYTES, 5)
    packer = packed([(array, other, array[BUFFER_BYTES // 8 :])], find=find)
    assert packer.n_bytes == BUFFER_BYTES
    assert packer.segments == {segment.number: segment}
    refs = packer.parts[0].refs
    assert refs[0] == (segment.number, 0, FILE_BYTES)
    assert refs[1][0] == OWN
    assert refs[2] == (segment.number, BUFFER_BYTES, FILE_BYTES - BUFFER_BYTES)
    message = packer.message(packer.store(MEMORY))
    assert message.segments == (segment,)
    keep(segment.introduction(), lambda _: file)
    try:
        assert are_equal(list(travelled(message)), [(array, other, array[BUFFER_BYTES // 8 :])])
    finally:
        forget(segment.number)


LARGE: dict[str, Any] = {
    "texts": [f"text {i}" for i in range(20_000)],
    "dict": {str(i): i for i in range(20_000)},
    "one text": "x" * 300_000,
}


@pytest.mark.parametrize("value", LARGE.values(), ids=LARGE)
def test_large_pickles_travel_like_buffers(storage: Storage | None, value: Any) -> None:
    """A value whose pickle itself is large is not in the frame's head, and each is rebuilt by itself."""
    packer = packed([value, value, 3])
    assert [part.is_large for part in packer.parts] == [True, True, False]
    message = packer.message(packer.store(storage) if storage else None)
    assert len(message.payload()[0]) < 1000
    one, other, three = travelled(message)
    assert one == other == value
    assert three == 3
    assert one is not other


class Stops:
    """Can't be pickled, though what comes before it in the pickle can."""

    def __reduce__(self) -> Any:
        raise ValueError("no")


def test_what_cannot_be_pickled_leaves_nothing() -> None:
    """A value that fails to be pickled halfway leaves neither bytes nor references; the others travel."""
    packer = packed([floats(FILE_BYTES)])
    bad = (floats(FILE_BYTES, 3), ["x" * BUFFER_BYTES] * 9, Stops())
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            packer.add(bad)
    packer.add("next")
    assert packer.n_bytes == FILE_BYTES
    assert len([*packer.spans]) == 1
    assert are_equal(list(travelled(packer.message(packer.store(MEMORY)))), [floats(FILE_BYTES), "next"])


def test_without_numpy_a_buffer_has_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where numpy isn't imported buffers travel as well, each by itself."""
    monkeypatch.setattr(module.sys, "modules", {k: v for k, v in module.sys.modules.items() if k != "numpy"})
    data = bytearray(b"x") * BUFFER_BYTES
    picked = pickle.PickleBuffer(data)
    packer = packed([(picked, picked), picked])
    assert packer.n_bytes == 3 * BUFFER_BYTES
    monkeypatch.undo()
    (one, _), other = travelled(packer.message(packer.store(MEMORY)))
    assert bytes(one) == bytes(other) == data


# --- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "stop"), [(0, 5), (1, 3), (4, 5), (2, 2)])
def test_some_values_of_a_message(storage: Storage | None, start: int, stop: int) -> None:
    """A part of a message has the values from there to there, over the same file, as they were when it was made."""
    arrays = [floats(BUFFER_BYTES + 8 * i, i) for i in range(5)]
    expected = [array.copy() for array in arrays]
    packer = packed(arrays)
    message = packer.message(packer.store(storage) if storage else None)
    if storage is not None:
        for array in arrays:
            array[:] = -1
    part = message.part(start, stop)
    assert part is not None
    assert len(travelled(part)) == stop - start
    assert are_equal(list(travelled(part)), expected[start:stop])


def test_values_in_one_pickle_cannot_be_parted() -> None:
    """A message whose values are in one pickle has no parts, and its payload is the pickle."""
    message = Message(b"data")
    assert (message.part(0, 1), message.payload(), message.size, message.inline_bytes) == (None, [b"data"], 4, 4)


def test_with_a_file_the_payload_is_small() -> None:
    """With a file the frame has pickles and references alone; without, the buffers behind them, as they lie."""
    arrays = [np.full(BUFFER_BYTES + 10, i, "u1") for i in range(3)]
    packer = packed(arrays)
    with_file, without = packer.message(packer.store(MEMORY)), packer.message(None)
    assert with_file.file is not None
    assert sum(map(len, with_file.payload())) < 2000
    head, *pieces = without.payload()
    behind = b"".join(map(bytes, pieces))
    assert len(behind) == packer.n_bytes
    assert [behind[span.offset : span.offset + span.n_bytes] for span in packer.spans] == [bytes(a) for a in arrays]
    assert bytes(with_file.payload()[0])[-50:] == bytes(head)[-50:]
    assert (with_file.size, without.size) == (without.inline_bytes, without.inline_bytes)
    assert with_file.inline_bytes == with_file.size - packer.n_bytes < 2000


def test_the_payload_is_not_copied() -> None:
    """Buffers that go with the message are sent from where they lie."""
    array = floats(FILE_BYTES)
    *_, piece = packed([array]).message(None).payload()
    assert np.shares_memory(np.frombuffer(piece, "f8"), array)


def test_a_named_file_is_told_by_its_path(tmp_path: Path) -> None:
    """What travels by its path says so in the payload."""
    packer = packed([floats(FILE_BYTES)])
    message = packer.message(packer.store(Storage("portable", str(tmp_path))))
    told: list[str | None] = []
    Received(b"".join(map(bytes, message.payload())), lambda path: told.append(path))
    assert message.file is not None
    assert told == [message.file.path]


class FailsHere:
    """Raises what it is told to when it is rebuilt."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return _raise, (self.error,)


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3), KeyboardInterrupt(), StopIteration(), EOFError()])
def test_one_that_cannot_be_rebuilt(storage: Storage | None, error: BaseException) -> None:
    """A value that can't be rebuilt, whatever that raises, is told apart; those behind it are rebuilt all the same."""
    values = [floats(FILE_BYTES), (floats(FILE_BYTES, 2), FailsHere(error)), "text", floats(FILE_BYTES, 4)]
    packer = packed(values)
    received = iter(travelled(packer.message(packer.store(storage) if storage else None)))
    assert are_equal(next(received), values[0])
    with pytest.raises(Unreadable) as caught:
        next(received)
    assert type(caught.value.__cause__) is type(error)
    assert next(received) == "text"
    assert are_equal(next(received), values[3])
    with pytest.raises(StopIteration):
        next(received)


def test_a_part_survives_plainness() -> None:
    """What becomes of a part in a frame is exact built-in types, of which the same part can be made."""
    for part in (
        Part(b"data"),
        Part(b"data", (Ref(0, 64, 70_000), Ref(3, 0, 9)), True),
        Part(Ref(OWN, 128, 99), (Ref(OWN, 0, 64),)),
    ):
        plain = part.plain()
        again = Part(*loads(pickle.dumps(plain)))
        assert {type(plain), type(plain[1])} == {tuple}
        assert again == part
        assert again.is_large is part.is_large is (part.data != b"data")


# --- segments --------------------------------------------------------------------------------------------------------


def a_segment(value: Any, *, is_value: bool = True, **options: Any) -> Segment:
    packer = packed([value])
    file = packer.store(MEMORY)
    assert file is not None
    return Segment(file, packer.parts[0] if is_value else None, **options)


def introduce(segment: Segment) -> None:
    keep(segment.introduction(), lambda _: MEMORY.received([os.dup(fd) for fd in segment.file.fds]))


def test_a_segment_is_alive_while_referred_to() -> None:
    """Its number is known for as long as something refers to it; what it keeps goes with it, and then `ended` is called."""
    ended: list[int] = []

    class Kept:
        """Says when it is gone."""

        def __del__(self) -> None:
            ended.append(1)

    segment = a_segment(floats(FILE_BYTES), keeps=[Kept()], ended=lambda: ended.append(number not in alive))
    number, held = segment.number, [segment]
    del segment
    assert number in alive
    assert ended == []
    held.clear()
    assert number not in alive
    assert sorted(ended) == [1, True]


def test_numbers_are_never_given_twice() -> None:
    """Segments made in several threads have numbers of their own, none of them the one of a message's own buffers."""
    file = packed([floats(FILE_BYTES)]).store(MEMORY)
    assert file is not None
    made: list[Segment] = []
    threads = [threading.Thread(target=lambda: made.extend(Segment(file) for _ in range(200))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = {segment.number for segment in made}
    assert len(numbers) == 800
    assert OWN not in numbers
    assert numbers <= alive


def test_a_message_keeps_its_segments() -> None:
    """For as long as a message refers to a segment that lives, whoever else has let go of it."""
    array = floats(FILE_BYTES)
    packer = packed([array], find=lambda *_: (a_segment(array, is_value=False), 0))
    message = packer.message(None)
    del packer
    (segment,) = message.segments
    number = segment.number
    del segment
    assert number in alive
    del message
    assert number not in alive


@pytest.mark.parametrize("is_named", [False, True])
def test_segments_are_introduced_and_forgotten(tmp_path: Path, is_named: bool) -> None:
    """The far side keeps a segment until it is told to forget it; what it made of it stays what it is."""
    array = floats(FILE_BYTES)
    packer = packed([{"a": array}])
    file = packer.store(Storage("portable", str(tmp_path)) if is_named else MEMORY)
    assert file is not None
    segment = Segment(file, packer.parts[0])
    told: list[str | None] = []

    def open_file(path: str | None) -> MemoryFile:
        told.append(path)
        return Storage("portable", trusts=True).opened(path) if path else MEMORY.received([os.dup(file.fds[0])])

    keep(segment.introduction(), open_file)
    assert told == [file.path]
    assert (file.path is not None) is is_named
    value = load_segment(segment.number)
    forget(segment.number)
    forget(segment.number)
    assert segment.number not in kept
    with pytest.raises(KeyError):
        load_segment(segment.number)
    assert are_equal(value, {"a": array})


def test_a_segment_without_a_file_is_an_error() -> None:
    """A segment whose file did not arrive is not kept."""
    segment = a_segment(floats(FILE_BYTES))

    def lost(_: str | None) -> MemoryFile:
        raise OSError("lost")

    with pytest.raises(OSError, match="lost"):
        keep(segment.introduction(), lost)
    assert segment.number not in kept


def test_values_of_arrays_are_rebuilt_each_time() -> None:
    """A segment whose pickle is small gives each caller memory of its own."""
    segment = a_segment([floats(FILE_BYTES)])
    introduce(segment)
    try:
        one, other = load_segment(segment.number), load_segment(segment.number)
        one[0][:] = 5
        assert are_equal(other, [floats(FILE_BYTES)])
    finally:
        forget(segment.number)


def test_values_with_large_pickles_are_kept() -> None:
    """What takes long to rebuild is rebuilt once for the process, and again after it was forgotten."""
    segment = a_segment({str(i): "x" * 20 for i in range(9000)})
    introduce(segment)
    one, other = load_segment(segment.number), load_segment(segment.number)
    forget(segment.number)
    assert one is other
    introduce(segment)
    again = load_segment(segment.number)
    forget(segment.number)
    assert again == one
    assert again is not one


def test_a_value_stands_in_other_values() -> None:
    """A segment stands in the place of its object wherever that is, and is the object again where it is rebuilt."""
    table = {str(i): "x" * 20 for i in range(9000)}
    segment = a_segment(table)
    packer = packed([("a", table), [table, [table]], "none"], values={id(table): segment})
    assert packer.n_bytes == 0
    assert packer.segments == {segment.number: segment}
    message = packer.message(None)
    assert message.size < 1000
    introduce(segment)
    try:
        first, second, third = travelled(message)
    finally:
        forget(segment.number)
    assert first == ("a", table)
    assert first[1] is second[0] is second[1][0]
    assert third == "none"


def test_a_part_within_a_segment() -> None:
    """What a packer has stored can become a segment: its own buffers are then that segment's, others stay where they are."""
    array, other = floats(FILE_BYTES), floats(FILE_BYTES, 7)
    elsewhere = a_segment(other, is_value=False)
    start = address(memoryview(other))
    packer = packed([(array, other)], find=lambda at, _: (elsewhere, 0) if at == start else None)
    file = packer.store(MEMORY)
    assert file is not None
    segment = Segment(file)
    part = packer.parts[0].within(segment)
    assert [ref.segment for ref in part.refs] == [segment.number, elsewhere.number]
    introduce(segment)
    introduce(elsewhere)
    try:
        assert are_equal(rebuild(part, no_buffers), (array, other))
    finally:
        forget(segment.number)
        forget(elsewhere.number)
    with pytest.raises(LookupError):
        rebuild(packer.parts[0], no_buffers)


def test_a_large_pickle_within_a_segment() -> None:
    """A pickle that is itself in the file moves along."""
    value = [str(i) for i in range(20_000)]
    packer = packed([value])
    file = packer.store(MEMORY)
    assert file is not None
    segment = Segment(file)
    part = packer.parts[0].within(segment)
    assert isinstance(part.data, Ref)
    assert part.data.segment == segment.number
    introduce(segment)
    assert rebuild(part, no_buffers) == value
    forget(segment.number)
