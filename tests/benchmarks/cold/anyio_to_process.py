"""One call through anyio's worker processes, from a cold start."""

import os

import anyio
from anyio import to_process


async def main() -> None:
    assert await to_process.run_sync(os.getpid) != os.getpid()


if __name__ == "__main__":
    anyio.run(main)
