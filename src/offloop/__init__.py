"""offloop takes CPU-bound work off the event loop: measured decisions, reusable workers, real cancellation."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ask_error import AskError as AskError
    from .default import close_default_session as close_default_session
    from .default import run as run
    from .default import run_batches as run_batches
    from .default import run_branches as run_branches
    from .default import run_parallel as run_parallel
    from .errors import AsyncFunctionError as AsyncFunctionError
    from .errors import BatchLengthError as BatchLengthError
    from .errors import BatchTypeError as BatchTypeError
    from .errors import ItemError as ItemError
    from .errors import ItemTimeout as ItemTimeout
    from .errors import OffloopError as OffloopError
    from .errors import Overloaded as Overloaded
    from .errors import PayloadTooLarge as PayloadTooLarge
    from .errors import SessionClosedError as SessionClosedError
    from .errors import SettingError as SettingError
    from .errors import SettingTypeError as SettingTypeError
    from .errors import TaskCancelled as TaskCancelled
    from .errors import UnpicklableError as UnpicklableError
    from .errors import UnpicklableFunction as UnpicklableFunction
    from .errors import UnpicklableItem as UnpicklableItem
    from .errors import UnpicklableResult as UnpicklableResult
    from .errors import WorkerCrashed as WorkerCrashed
    from .errors import WorkerError as WorkerError
    from .errors import WorkerInitError as WorkerInitError
    from .errors import WorkerStartError as WorkerStartError
    from .events import Event as Event
    from .functions import call as call
    from .functions import star as star
    from .functions import units as units
    from .model import Decision as Decision
    from .model import Reason as Reason
    from .model import SessionStatistics as SessionStatistics
    from .model import Strategy as Strategy
    from .options import CallOptions as CallOptions
    from .progress import ProgressEvent as ProgressEvent
    from .progressing import ProgressStream as ProgressStream
    from .session import ParallelSession as ParallelSession
    from .settings import ParallelConfig as ParallelConfig
    from .settings import SettingSource as SettingSource
    from .streaming import Results as Results
    from .streaming import Stream as Stream
    from .sync import SyncSession as SyncSession
    from .sync import close_default_session_sync as close_default_session_sync
    from .sync import run_batches_sync as run_batches_sync
    from .sync import run_branches_sync as run_branches_sync
    from .sync import run_parallel_sync as run_parallel_sync
    from .sync import run_sync as run_sync
    from .sync_streaming import SyncResults as SyncResults
    from .sync_streaming import SyncStream as SyncStream
    from .telemetry import add_sink as add_sink
    from .telemetry import use_default_sink as use_default_sink
    from .worker.asking import ask as ask
    from .worker.task import checkpoint as checkpoint
    from .worker.task import in_worker as in_worker
    from .worker.task import is_cancelled as is_cancelled
    from .worker.task import report_progress as report_progress
    from .worker.task import shield as shield
    from .worker.task import worker_state as worker_state

__version__ = "0.1.0"

__all__ = (
    "AskError",
    "AsyncFunctionError",
    "BatchLengthError",
    "BatchTypeError",
    "CallOptions",
    "Decision",
    "Event",
    "ItemError",
    "ItemTimeout",
    "OffloopError",
    "Overloaded",
    "ParallelConfig",
    "ParallelSession",
    "PayloadTooLarge",
    "ProgressEvent",
    "ProgressStream",
    "Reason",
    "Results",
    "SessionClosedError",
    "SessionStatistics",
    "SettingError",
    "SettingSource",
    "SettingTypeError",
    "Strategy",
    "Stream",
    "SyncResults",
    "SyncSession",
    "SyncStream",
    "TaskCancelled",
    "UnpicklableError",
    "UnpicklableFunction",
    "UnpicklableItem",
    "UnpicklableResult",
    "WorkerCrashed",
    "WorkerError",
    "WorkerInitError",
    "WorkerStartError",
    "add_sink",
    "ask",
    "call",
    "checkpoint",
    "close_default_session",
    "close_default_session_sync",
    "in_worker",
    "is_cancelled",
    "report_progress",
    "run",
    "run_batches",
    "run_batches_sync",
    "run_branches",
    "run_branches_sync",
    "run_parallel",
    "run_parallel_sync",
    "run_sync",
    "shield",
    "star",
    "units",
    "use_default_sink",
    "worker_state",
)

# Where each name lives. A worker process imports this package too, so nothing is imported before it is used.
_HOMES = {
    ".default": ("close_default_session", "run", "run_batches", "run_branches", "run_parallel"),
    ".errors": (
        *(name for name in __all__ if name.endswith(("Error", "Crashed", "Cancelled", "Large", "Overloaded", "Timeout"))),
        *(name for name in __all__ if name.startswith("Unpicklable") and not name.endswith("Error")),
    ),
    ".ask_error": ("AskError",),
    ".events": ("Event",),
    ".functions": ("call", "star", "units"),
    ".model": ("Decision", "Reason", "SessionStatistics", "Strategy"),
    ".session": ("ParallelSession",),
    ".options": ("CallOptions",),
    ".progress": ("ProgressEvent",),
    ".progressing": ("ProgressStream",),
    ".settings": ("ParallelConfig", "SettingSource"),
    ".streaming": ("Results", "Stream"),
    ".sync": (
        *("SyncSession", "close_default_session_sync"),
        *(name for name in __all__ if name.startswith("run") and name.endswith("_sync")),
    ),
    ".sync_streaming": ("SyncResults", "SyncStream"),
    ".telemetry": ("add_sink", "use_default_sink"),
    ".worker.asking": ("ask",),
    ".worker.task": ("checkpoint", "in_worker", "is_cancelled", "report_progress", "shield", "worker_state"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
