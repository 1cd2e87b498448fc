"""``python -m offloop``: the command line."""

import sys

from .cli import main

if __name__ == "__main__":  # and not a worker process, which imports the main module of its parent under another name
    sys.exit(main())
