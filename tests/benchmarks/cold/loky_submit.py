"""One call through loky's reusable executor, from a cold start."""

import os

from loky import get_reusable_executor

if __name__ == "__main__":
    assert get_reusable_executor(max_workers=2).submit(os.getpid).result() != os.getpid()
