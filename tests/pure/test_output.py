"""worker/output.py, capturing.py, context.py and pool/hearing.py: what is said in a worker, up to where it is heard."""

from __future__ import annotations

import io
import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import pytest
import structlog

from offloop import telemetry
from offloop.errors import TaskCancelled
from offloop.events import Event, WorkerOutput
from offloop.pool import hearing
from offloop.pool.hearing import hear, wanted_levels
from offloop.strategies.job import Job
from offloop.telemetry import add_sink, current_context
from offloop.wire.frames import FrameReader, Kind, Said
from offloop.wire.pickling import dumps_plain, is_plain, loads
from offloop.wire.status_page import CANCEL, ITEM, LOADING, OVER, PACKED, SIZE, UNPACKING, item_base, new_page
from offloop.worker import task
from offloop.worker.capturing import Source, capture, capture_structlog, packed_record
from offloop.worker.channel import Channel
from offloop.worker.context import NO_CONTEXT, bind, bound, plain_fields, shortened
from offloop.worker.interrupt import Guard, calls_user_code
from offloop.worker.output import FRAME_RECORDS, MOST_LINE, MOST_RECORDS, Captured, Output, Ring, plainly
from offloop.worker.task import Task

EPOCH = 5


class Lane:
    """A worker's lane with this test at its other end."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.words = new_page(bytearray(SIZE))
        self.channel = Channel(self.far, None)  # type: ignore[arg-type]
        self.output = Output(self.channel, self.words)
        self._reader = FrameReader()

    def frames(self) -> list[tuple[int, list[Any]]]:
        """Return what has been sent: how many were dropped before, and records, for each frame."""
        found: list[tuple[int, list[Any]]] = []
        while True:
            while (frame := self._reader.next_frame()) is not None:
                assert frame.header.kind == Kind.LOG
                found.append(loads(frame.payload))
            try:
                self._reader.received(self.near.recv_into(self._reader.writable()))
            except BlockingIOError:
                return found

    def records(self) -> list[Any]:
        """Return all records that have been sent."""
        return [record for _, records in self.frames() for record in records]


@pytest.fixture
def lane() -> Iterator[Lane]:
    lane = Lane()
    with lane.near, lane.far:
        yield lane


@pytest.fixture
def stream(lane: Lane) -> Captured:
    """A captured stream over a buffer."""
    inherited = io.TextIOWrapper(io.BytesIO(), "utf-8")
    lane.output.streams["stdout"] = captured = Captured(lane.output, "stdout", inherited)
    return captured


@pytest.fixture
def untouched() -> Iterator[None]:
    """Put back what capturing changes in a process."""
    streams, shown, root = (sys.stdout, sys.stderr), warnings.showwarning, logging.getLogger()
    handlers, level = root.handlers[:], root.level
    structlog.reset_defaults()
    yield
    sys.stdout, sys.stderr = streams
    warnings.showwarning = shown
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def told() -> Iterator[list[Event]]:
    """The events that a sink gets."""
    events: list[Event] = []
    remove = add_sink(events.append)
    yield events
    remove()


def printed(text: str, item: int | None = None) -> tuple[Any, ...]:
    return Said.PRINTED, item, "stdout", text


# --- the ring ------------------------------------------------------------------------------------------------------------


def test_the_ring_drops_the_oldest() -> None:
    """Beyond so many records, or characters, the oldest make room, and are counted once."""
    ring = Ring(most_records=3)
    for number in range(5):
        ring.add((number,), 1)
    assert (len(ring), ring.take_dropped(), ring.take_dropped()) == (3, 2, 0)
    assert ring.take() == [(2,), (3,), (4,)]
    ring = Ring(most_chars=1000)
    for number in range(5):
        ring.add((number,), 300)
    assert (ring.take_dropped(), ring.take()) == (3, [(3,), (4,)])
    ring.add(("long",), 5000)
    assert (ring.take_dropped(), ring.take()) == (0, [("long",)])


def test_a_frame_is_small() -> None:
    """What is taken at a time is bounded in records and in characters."""
    ring = Ring()
    for number in range(MOST_RECORDS):
        ring.add((number,), 10)
    assert [len(ring.take()) for _ in range(3)] == [FRAME_RECORDS] * 3
    ring = Ring()
    for number in range(20):
        ring.add((number,), 8000)
    assert len(ring.take()) < 5


# --- the way out ---------------------------------------------------------------------------------------------------------


def test_the_main_thread_sends_at_once(lane: Lane) -> None:
    """What it says while a chunk is under way is sent as it says it."""
    lane.output.begin()
    for text in ("one", "two"):
        lane.output.say(printed(text), 3)
        assert lane.records() == [printed(text)]


def test_much_is_sent_in_few_frames(lane: Lane) -> None:
    """Once it has said much on end, frames bring many records; none is lost, and their order holds."""
    lane.output.begin()
    for number in range(1000):
        lane.output.say(printed(str(number)), 3)
    frames = lane.frames()
    lane.output.end()
    frames += lane.frames()
    assert [record[3] for _, records in frames for record in records] == list(map(str, range(1000)))
    assert len(frames) < 200


def test_other_threads_do_not_send(lane: Lane) -> None:
    """What they say waits for the next frame of the main thread: two at a time would mix their bytes."""
    lane.output.begin()
    thread = threading.Thread(target=lane.output.say, args=(printed("theirs"), 6))
    thread.start()
    thread.join()
    assert lane.records() == []
    lane.output.flush()
    assert lane.records() == [printed("theirs")]


def test_what_does_not_fit_waits(lane: Lane) -> None:
    """Nobody who prints waits for a parent that doesn't read; what is too much is dropped, and counted at the end."""
    lane.output.begin()
    for number in range(5000):
        lane.output.say(printed(f"{number} {'x' * 200}"), 200)
    frames = lane.frames()
    reader = threading.Thread(target=lane.output.flush)  # as the end does: it may have to wait for who reads
    reader.start()
    while reader.is_alive():
        frames += lane.frames()
    frames += lane.frames()
    n_sent = sum(len(records) for _, records in frames)
    n_dropped = sum(n_dropped for n_dropped, _ in frames)
    assert 0 < n_sent < 5000
    assert n_sent + n_dropped == 5000
    assert frames[-1][1][-1][3].startswith("4999 ")


def test_no_frame_comes_within_another(lane: Lane) -> None:
    """What a signal handler or a finalizer says while a frame is being written waits until that is over."""

    class Piece(bytes):
        def __len__(self) -> int:
            lane.output.say(printed("meanwhile"), 9)
            return super().__len__()

    lane.output.begin()
    lane.channel.send(Kind.LOG, dumps_plain((0, ["before"])))
    header = lane.near.recv(1 << 16)[: -len(dumps_plain((0, ["before"])))]
    lane.channel.write(header, [Piece(dumps_plain((0, ["before"])))])
    assert lane.records() == ["before"]
    lane.output.end()
    assert lane.records()[0] == printed("meanwhile")


@pytest.mark.parametrize(
    ("word", "item"), [(17, 17), (0, 0), (OVER, None), (LOADING, None), (UNPACKING, None), (17 | PACKED, None)]
)
def test_the_item_is_the_one_on_the_page(lane: Lane, word: int, item: int | None) -> None:
    """A record belongs to the item that the status page names; to none between items."""
    lane.words[ITEM] = item_base(EPOCH) + word
    assert lane.output.item == item


def test_between_chunks_nothing_is_sent(lane: Lane, stream: Captured) -> None:
    """What is said then is written where it went without us, all kinds of records as lines."""
    lane.output.begin()
    lane.output.end()
    for record in (
        printed("a line"),
        (Said.LOGGED, None, {"name": "n", "levelname": "INFO", "msg": "m", "exc_text": "trace", "stack_info": None}, {}),
        (Said.WARNED, None, "builtins.UserWarning", "careful", "app.py", 3),
        (Said.EVENT, None, 20, None, "happened", {"x": 1}),
    ):
        lane.output.say(record, 10)
    stream.write("by itself\n")
    assert lane.records() == []
    stream.flush()
    assert stream.buffer.getvalue() == b"a line\nby itself\n"  # type: ignore[attr-defined]
    assert plainly((Said.LOGGED, None, {"name": "n", "levelname": "INFO", "msg": "m", "exc_text": "t", "stack_info": ""}, {})) == (
        "stderr",
        f"[worker {os.getpid()}] INFO n: m\nt\n",
    )
    assert plainly((Said.WARNED, None, "UserWarning", "careful", "app.py", 3))[1].endswith("] app.py:3: UserWarning: careful\n")
    assert plainly((Said.EVENT, None, 20, None, "happened", {"x": 1}))[1].endswith("] happened x=1\n")


def test_a_worker_that_gives_up_writes_what_is_left(lane: Lane, stream: Captured) -> None:
    """When its own code has failed nothing is sent any more, and nothing is lost."""
    lane.output.begin()
    thread = threading.Thread(target=stream.write, args=("theirs\n",))
    thread.start()
    thread.join()
    lane.output.give_up()
    assert lane.records() == []
    assert stream.buffer.getvalue() == b"theirs\n"  # type: ignore[attr-defined]
    stream.buffer.close()
    lane.output.say(printed("to a closed stream"), 10)


# --- streams -------------------------------------------------------------------------------------------------------------


def test_lines_are_cut(lane: Lane, stream: Captured) -> None:
    """Each line is a record of its own, without its end; the beginning of one waits for its end, a flush, or the chunk's."""
    lane.output.begin()
    assert stream.write("one\ntwo\nthr") == 11
    stream.write("ee\n\n")
    assert [record[3] for record in lane.records()] == ["one", "two", "three", ""]
    stream.write("four")
    assert lane.records() == []
    stream.flush()
    assert [record[3] for record in lane.records()] == ["four"]
    stream.write("five")
    lane.output.end()
    assert [record[3] for record in lane.records()] == ["five"]


def test_long_lines_come_in_pieces(lane: Lane, stream: Captured) -> None:
    """However long a line is, all of it comes, though its end has not come yet."""
    lane.output.begin()
    text = "".join(map(str, range(20_000)))
    for start in range(0, len(text), 1000):
        stream.write(text[start : start + 1000])
    stream.write("\n" + text + "\n")
    lane.output.end()
    pieces = [record[3] for record in lane.records()]
    assert "".join(pieces) == text + text
    assert max(map(len, pieces)) <= MOST_LINE + 1000


def test_only_text_is_written(lane: Lane, stream: Captured) -> None:
    """What is no text is refused as ever; what is derived from it arrives as text."""

    class Text(str):
        pass

    lane.output.begin()
    with pytest.raises(TypeError, match="must be str, not bytes"):
        stream.write(b"bytes")  # type: ignore[arg-type]
    stream.write(Text("derived\n"))
    stream.write("\ud800 alone\n")
    texts = [record[3] for record in lane.records()]
    assert texts == ["derived", "\ud800 alone"]
    assert {type(text) for text in texts} == {str}


def test_a_forked_process_begins_anew(lane: Lane, stream: Captured) -> None:
    """It neither sends nor repeats what its parent was about to say, and writes for itself."""
    lane.output.begin()
    stream.write("begun")
    lane.output.leave_behind()
    stream.write("own\n")
    stream.flush()
    assert lane.records() == []
    assert stream.buffer.getvalue() == b"own\n"  # type: ignore[attr-defined]


def test_an_interrupt_comes_as_the_stream_returns(lane: Lane, stream: Captured) -> None:
    """One that came while the stream was at work is raised as it goes back to user code, not before its line is said."""
    guard = Guard()
    handler = signal.getsignal(signal.SIGURG)
    guard.install()

    @calls_user_code
    def executing(fn: Any) -> None:
        guard.open(lane.words, EPOCH)
        try:
            fn()
        finally:
            guard.shut()

    class Text(str):
        def __str__(self) -> str:
            return "never"

        def __format__(self, spec: str) -> str:
            signal.raise_signal(signal.SIGURG)  # held back: the stream's own code is on the stack
            return "said\n"

    lane.output.begin()
    lane.words[CANCEL] = EPOCH
    task.current.task = Task(lane.words, EPOCH, None, True, guard)
    try:
        with pytest.raises(TaskCancelled):
            executing(lambda: stream.write(Text("x")))
        assert [record[3] for record in lane.records()] == ["said"]
        executing(lambda: stream.write("nobody has asked\n"))
    finally:
        task.current.task = None
        signal.signal(signal.SIGURG, handler)


# --- capturing -----------------------------------------------------------------------------------------------------------


def test_capturing_takes_in_everything(lane: Lane, untouched: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prints, log records, warnings and structlog's events become records of plain values."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), "utf-8"))
    shown: list[Any] = []
    monkeypatch.setattr(warnings, "showwarning", lambda *args: shown.append(args))
    capture(lane.output, {"": logging.WARNING, "talkative.asked": logging.DEBUG})
    capture_structlog(lane.output)
    lane.output.begin()
    print("printed")
    logging.getLogger("talkative.asked").debug("%d logged", 1, extra={"own": 2})
    logging.getLogger("talkative.other").info("nobody asks")
    warnings.showwarning("warned", UserWarning, "app.py", 3)
    warnings.showwarning("elsewhere", UserWarning, "app.py", 3, file=sys.stderr)
    structlog.get_logger("named").info("happened", number=1)
    try:
        raise ValueError("no")
    except ValueError:
        structlog.get_logger().exception("failed")
    logging.getLogger("talkative.asked").setLevel(logging.NOTSET)
    lane.output.end()
    records = lane.records()
    assert is_plain([records])
    assert records[0] == (Said.PRINTED, None, "stdout", "printed")
    kind, item, own, extra = records[1]
    assert (kind, item, own["msg"], own["levelno"], extra) == (Said.LOGGED, None, "1 logged", logging.DEBUG, {"own": 2})
    assert records[2] == (Said.WARNED, None, "builtins.UserWarning", "warned", "app.py", 3)
    others = [record for record in records[3:] if record[0] == Said.EVENT]
    assert others[0] == (Said.EVENT, None, logging.INFO, "named", "happened", {"number": 1})
    assert others[1][2:5] == (logging.ERROR, None, "failed")
    assert others[1][5]["exception"].endswith("ValueError: no")
    assert [args[0] for args in shown] == ["elsewhere"]


def test_a_log_call_that_is_wrong_says_so(
    lane: Lane, stream: Captured, untouched: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arguments that don't fit the message fail no item: logging tells of them on stderr, as ever."""
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    capture(lane.output, {})
    lane.output.begin()
    logging.getLogger("talkative").error("%d", "no number")
    assert "--- Logging error ---" in [record[3] for record in lane.records()]


def test_structlog_is_configured_once(lane: Lane, untouched: None) -> None:
    """A configuration that is there is left alone; ours is not taken for the application's."""
    structlog.configure(processors=[])
    capture_structlog(lane.output)
    assert structlog.get_config()["processors"] == []
    structlog.reset_defaults()
    capture_structlog(lane.output)
    assert structlog.get_config()["logger_factory"] is Source
    assert telemetry._structlog_is_configured()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task, "is_worker_process", True)
        assert not telemetry._structlog_is_configured()


def test_a_log_record_is_packed(untouched: None) -> None:
    """Whatever its fields are, what travels is plain, and long texts are cut."""

    class Level(IntEnum):
        LOUD = 35

    record = logging.makeLogRecord({"name": "n", "levelno": Level.LOUD, "msg": "x" * 10_000, "thing": object, "pathname": None})
    record.exc_info = (ValueError, ValueError("no"), None)
    own, extra = packed_record(record)
    assert is_plain([own, extra])
    assert type(own["levelno"]) is int
    assert len(own["msg"]) < 9000
    assert own["exc_text"] == "ValueError: no"
    assert extra == {"thing": "<class 'object'>"}


def test_fields_are_made_plain() -> None:
    """Scalars stay what they are, other values become text, what has no text says so, and names are text."""

    class Silent:
        def __repr__(self) -> str:
            raise ValueError

    class Text(str):
        pass

    fields = {"a": 1, "b": True, "c": None, "d": 0.5, "e": "x", "f": [1], "g": Silent(), "h": 1 << 70, "i": Text("y"), 3: 4}
    plain = plain_fields({**fields, "j" * 200: 1})
    silent = "<no text: its __repr__ raised ValueError>"
    assert plain == dict(a=1, b=True, c=None, d=0.5, e="x", f="[1]", g=silent, h=str(1 << 70), i="'y'")  # noqa: C408
    assert is_plain([plain])
    assert sum(map(len, plain_fields({str(n): "x" * 1000 for n in range(20)}).values())) <= 8192
    assert shortened("x" * 20, 5) == "xxxxx… (15 more characters)"


def test_large_containers_have_no_text() -> None:
    """Of a built-in container with many elements, also deep in it, or with long texts, type and length are told."""

    class Many(list[int]):
        def __repr__(self) -> str:
            return "many"

    ring: list[Any] = []
    ring.append(ring)
    fields = {"most": [1] * 64, "more": [1] * 1000, "deep": {"x": [[range(9)] * 65]}, "raw": bytes(10_000), "many": Many([1] * 99)}
    assert plain_fields({**fields, "ring": ring, "few": ({1: "x"}, {2})}) == {
        "most": str([1] * 64),
        "more": "<list of length 1,000>",
        "deep": "<dict of length 1>",
        "raw": "<bytes of length 10,000>",
        "many": "many",
        "ring": "<list of length 1>",
        "few": "({1: 'x'}, {2})",
    }


def test_binding_replaces_what_is_bound(untouched: None) -> None:
    """After it just these are bound; what nobody has bound costs no structlog."""
    structlog.contextvars.bind_contextvars(old=1)
    bind({"new": 2})
    assert bound() == {"new": 2}
    bind(NO_CONTEXT)
    assert bound() == {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "structlog", None)  # an import of it would fail
        bind(NO_CONTEXT)
        assert bound() == {}


def test_the_current_context_is_plain(untouched: None) -> None:
    """What a call takes along is what is bound at that moment, or nothing."""
    assert current_context() is None
    with structlog.contextvars.bound_contextvars(request_id="r-1", thing=[1]):
        assert current_context() == {"request_id": "r-1", "thing": "[1]"}


def test_jobs_of_several_callers_travel_as_one() -> None:
    """A job within a context is packed once for all contexts, and what is found out of its name counts for all."""
    job = Job(1, len, "len", 0, None)  # type: ignore[arg-type]
    within = job.within({"request_id": 1})
    within.packed = packed = object()  # type: ignore[assignment]
    assert (job.packed, job.context, within.context) == (packed, NO_CONTEXT, {"request_id": 1})
    assert within.alone().context == {"request_id": 1}
    within.distrust_name()
    job.distrust_name()
    assert job.by_value
    assert within.by_value


# --- hearing -------------------------------------------------------------------------------------------------------------


def payload_of(*records: Any, n_dropped: int = 0) -> bytes:
    return dumps_plain((n_dropped, list(records)))


def test_levels_are_those_of_this_process(untouched: None) -> None:
    """The root logger's, and every one that was set."""
    logging.getLogger("talkative.asked").setLevel(logging.DEBUG)
    try:
        levels = wanted_levels()
    finally:
        logging.getLogger("talkative.asked").setLevel(logging.NOTSET)
    assert levels[""] == logging.getLogger().level
    assert levels["talkative.asked"] == logging.DEBUG
    assert 0 not in [level for name, level in levels.items() if name]


def test_drops_are_told(told: list[Event]) -> None:
    """How many records were lost is an event."""
    hear(42, payload_of(n_dropped=7))
    assert [(event.event, event.as_dict()) for event in told] == [("worker.output_dropped", {"pid": 42, "n_dropped": 7})]


def test_a_warning_is_shown_once(untouched: None) -> None:
    """By the default filter one that all workers give is shown once, as if it came from here."""
    record = (Said.WARNED, 3, "builtins.UserWarning", "from all", "no_such_app.py", 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        hear(42, payload_of(record, record))
        hear(43, payload_of(record))
    assert [str(warning.message) for warning in caught] == ["from all"]
    hearing._shown.clear()


def test_few_warnings_are_remembered(untouched: None) -> None:
    """However many different ones come, from one file or from many, what is remembered of them is bounded."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for number in range(2500):
            hear(42, payload_of((Said.WARNED, None, "builtins.UserWarning", f"{number}", f"app_{number % 2}.py", 3)))
            assert sum(map(len, hearing._shown.values())) <= hearing._MOST_SHOWN + 2
    assert len(caught) == 2500
    hearing._shown.clear()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("builtins.DeprecationWarning", DeprecationWarning),
        ("no_such_module.OwnWarning", UserWarning),
        ("os.path", UserWarning),
        ("builtins.int", UserWarning),
        ("builtins.UnicodeDecodeError", UserWarning),
    ],
)
def test_warnings_of_unknown_classes(kind: str, expected: type[Warning]) -> None:
    """Only a class of warnings that this process has anyway is used; nothing is imported, and nothing else is called."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        hear(42, payload_of((Said.WARNED, None, kind, "text", "no_such_app.py", 3)))
    assert [(warning.category, str(warning.message)) for warning in caught] == [(expected, "text")]


@pytest.mark.parametrize(("level", "method"), [(10, "debug"), (20, "info"), (30, "warning"), (40, "error"), (50, "critical")])
@pytest.mark.parametrize("kind", [structlog.BoundLogger, structlog.stdlib.BoundLogger], ids=lambda kind: kind.__module__)
def test_events_reach_loggers_of_any_class(untouched: None, kind: Any, level: int, method: str) -> None:
    """A worker's event is logged by the method of its level, whatever else the class of the application's loggers has."""
    kept: list[Any] = []

    def keep(logger: Any, name: str, event: Any) -> Any:
        kept.append((name, event))
        raise structlog.DropEvent

    structlog.configure(processors=[keep], wrapper_class=kind, logger_factory=structlog.stdlib.LoggerFactory())
    hear(42, payload_of((Said.EVENT, 3, level, "app", "happened", {"x": 1, "event": 2})))
    assert kept == [(method, {"event": "happened", "x": 1, "event_": 2, "worker_pid": 42, "item": 3})]


def test_events_for_async_loggers_go_to_logging(untouched: None, caplog: pytest.LogCaptureFixture) -> None:
    """Where structlog's loggers are async, a worker's event goes to the standard library's logger of its name."""
    structlog.configure(wrapper_class=structlog.stdlib.AsyncBoundLogger, logger_factory=structlog.stdlib.LoggerFactory())
    hear(42, payload_of((Said.EVENT, 3, logging.ERROR, "talkative", "happened", {"x": 1})))
    (record,) = caplog.records
    assert (record.name, record.levelno, record.getMessage()) == ("talkative", logging.ERROR, "happened x=1")
    assert (record.worker_pid, record.item) == (42, 3)


def test_what_can_not_be_handed_on_is_logged(caplog: pytest.LogCaptureFixture, told: list[Event]) -> None:
    """A record that nothing can be made of stops no other."""
    hear(42, payload_of((99, None), (Said.LOGGED, None, {}, {}), printed("still here", 1)))
    assert [r.getMessage() for r in caplog.records] == ["what was logged or warned in worker 42 could not be handed on"] * 2
    assert told == [WorkerOutput(pid=42, item=1, stream="stdout", text="still here")]


def test_text_that_a_stream_can_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this process's stream has another encoding a line is escaped; where there is no stream it is left out."""
    stream = io.TextIOWrapper(io.BytesIO(), "ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", None)
    structlog.reset_defaults()
    hear(42, payload_of(printed("größer"), (Said.PRINTED, 3, "stderr", "nowhere")))
    assert stream.buffer.getvalue() == b"[worker 42] 'gr\\xf6\\xdfer'\n"  # type: ignore[attr-defined]
