"""The load generator, a program of its own: it plays one plan against one server and prints what it found as JSON."""

import asyncio
import gc
import json
import sys
from dataclasses import asdict, dataclass

from ..entrants import Sample


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked of a server.

    Attributes:
        plan: Which plan.
        by: What executes the work: as `Serving.by`, or "split".
        port: Where the server listens.
        pid: The server's process.
        page: The path of the page on which requests and executions are counted.
        workers: How many the server has.
        is_quick: Whether less will do.
        nice: How far below others the workers are.
    """

    plan: str
    by: str
    port: int
    pid: int
    page: str
    workers: int
    is_quick: bool
    nice: int = 5

    def to_json(self) -> str:
        """Return it as text."""
        return json.dumps(asdict(self))


def main() -> None:
    """Play the plan of ``sys.argv[1]``."""
    from .plans import PLANS

    load = Load(**json.loads(sys.argv[1]))
    gc.freeze()
    sample: Sample = asyncio.run(PLANS[load.plan](load))
    print(json.dumps(sample))
