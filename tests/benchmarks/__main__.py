"""The command ``python -m tests.benchmarks``."""

from .command import main

if __name__ == "__main__":
    main()
