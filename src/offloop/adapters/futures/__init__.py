"""`ParallelSession.executor`: a `concurrent.futures.Executor` over a session's workers."""

from .errors import ArgumentUnpicklable, CallCrashed, FunctionUnpicklable, InitFailed, ResultUnpicklable
from .executor import SessionExecutor
from .future import ExecutorFuture

__all__ = (
    "ArgumentUnpicklable",
    "CallCrashed",
    "ExecutorFuture",
    "FunctionUnpicklable",
    "InitFailed",
    "ResultUnpicklable",
    "SessionExecutor",
)
