"""How a server is set up, as plain frozen values."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

OURS, THREADS = "offloop", "thread"


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How a server is set up.

    Attributes:
        by: What executes the work, `OURS` or `THREADS`.
        workers: How many of them there are.
        page: The path of the page on which requests and executions are counted.
        turns: How many loop turns are a millisecond.
        drain_timeout_s: How long what is in flight may take after SIGTERM.
        settings: Of the session.
    """

    by: str
    workers: int
    page: str
    turns: int
    drain_timeout_s: float = 10.0
    settings: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return it as text."""
        return json.dumps(asdict(self))
