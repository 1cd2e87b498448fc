"""loky, as most of its users meet it."""

from concurrent.futures import Executor
from typing import cast

import loky

from .executors import OnExecutor


class Loky(OnExecutor):
    """The reusable executor, kept from going idle between rounds."""

    def open(self) -> Executor:
        return cast(Executor, loky.get_reusable_executor(max_workers=self.workers, timeout=600))
