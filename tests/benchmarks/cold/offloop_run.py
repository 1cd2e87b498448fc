"""One call through offloop, from a cold start."""

import os

import anyio

import offloop


async def main() -> None:
    assert await offloop.run(os.getpid, strategy="processes") != os.getpid()


if __name__ == "__main__":
    anyio.run(main)
