"""The plans by the name of their figure."""

from collections.abc import Callable, Coroutine
from typing import Any

from ..entrants import Sample
from .disconnects import disconnects
from .latency import endpoint_latency
from .load import Load
from .overload import overload
from .sigterm import sigterm

PLANS: dict[str, Callable[[Load], Coroutine[Any, Any, Sample]]] = {
    "endpoint_latency": endpoint_latency,
    "overload": overload,
    "disconnects": disconnects,
    "sigterm": sigterm,
}
