"""pool/death.py: what is told of a worker's death."""

from __future__ import annotations

from offloop.pool.death import dump_from

HEAD = b"Fatal Python error: Segmentation fault\n\n"
THREAD = b'Thread 0x00007f (most recent call first):\n' + b'  File "a.py", line 1 in wait\n' * 300 + b"\n"
CURRENT = b'Current thread 0x00008f (most recent call first):\n  File "b.py", line 7 in culprit\n'


def test_no_text_is_none() -> None:
    """Where faulthandler wrote nothing there is no dump."""
    assert dump_from(bytes(100)) == ""
    assert dump_from(b"") == ""


def test_a_short_text_is_given_whole() -> None:
    """What was written is the dump, without the zeros behind it."""
    assert dump_from(HEAD + CURRENT + bytes(100)) == (HEAD + CURRENT).decode().rstrip()


def test_of_a_long_text_the_thread_that_died_is_given() -> None:
    """Many threads don't hide the one that died, and the whole is no longer than a screen or two."""
    dump = dump_from(HEAD + THREAD + CURRENT)
    assert dump.startswith("Fatal Python error: Segmentation fault\n\nCurrent thread")
    assert "culprit" in dump
    assert "wait" not in dump
    assert len(dump_from(HEAD + THREAD)) < 4100


def test_a_terminal_is_safe() -> None:
    """Nothing in the dump moves a cursor or changes colours, whatever was written to the place."""
    assert dump_from(b"a\x1b[31mred\r\x07\nb\0") == "a?[31mred??\nb".replace("?", "\N{REPLACEMENT CHARACTER}")
    told = set(dump_from(bytes(range(1, 256))))
    assert told == {"\n", "\N{REPLACEMENT CHARACTER}", *map(chr, range(ord(" "), ord("~") + 1))}
