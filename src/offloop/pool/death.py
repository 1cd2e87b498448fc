"""What is known of a worker's death."""

from __future__ import annotations

import re
from typing import NamedTuple

_MAX_CHARACTERS = 4000
_UNFIT = re.compile(r"[^\n -~]")  # all that faulthandler writes itself is ASCII
_CURRENT = "Current thread "  # how faulthandler begins the stack of the thread that died


class Death(NamedTuple):
    """How a worker ended.

    Attributes:
        exit_code: As `os.waitstatus_to_exitcode` gives it; None where it isn't known.
        cause: What is known of why; empty where that could only be guessed.
        dump: What faulthandler wrote as it died: the Python stack of each thread; empty if nothing.
    """

    exit_code: int | None
    cause: str = ""
    dump: str = ""


def dump_from(text: bytes) -> str:
    """Return faulthandler's text, fit for a terminal; of a long one what the thread that died has done.

    Args:
        text: What is in the place for it, zeros behind it.
    """
    written = text.partition(b"\0")[0].decode(errors="replace").strip()
    dump = _UNFIT.sub("\N{REPLACEMENT CHARACTER}", written)
    if len(dump) > _MAX_CHARACTERS:
        head, at, tail = dump.partition(_CURRENT)
        if at:
            dump = f"{head.partition(chr(10))[0]}\n\n{at}{tail}"
        dump = dump[:_MAX_CHARACTERS].rstrip() + " …"
    return dump
