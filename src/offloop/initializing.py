"""worker_init in this process: once, whoever asks first, so that all strategies agree."""

from __future__ import annotations

import threading
from typing import Any

from .errors import WorkerInitError
from .settings import ParallelConfig
from .wire.failures import safe_text, type_name
from .wire.pickling import function_name


class LocalInitializer:
    """Runs a session's worker_init in this process when an item first executes here."""

    def __init__(self, config: ParallelConfig) -> None:
        self._init, self._args = config.worker_init, config.worker_init_args
        self._lock = threading.Lock()
        self._state: Any = None
        self._is_done = self._init is None

    def state(self) -> Any:
        """Return what worker_init returned, running it if that has not been done.

        Raises:
            WorkerInitError: It raised; the next item tries again.
        """
        if not self._is_done:
            with self._lock:
                if not self._is_done:
                    self._run()
        return self._state

    def _run(self) -> None:
        assert self._init is not None
        try:
            self._state = self._init(*self._args)
        except BaseException as error:
            raise WorkerInitError(function_name(self._init), f"{type_name(error)}: {safe_text(error)}") from error
        self._is_done = True
