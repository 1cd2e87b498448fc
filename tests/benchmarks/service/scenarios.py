"""The scenarios of a service, without a web server, by the name of their figure; each starts its contender itself."""

from collections.abc import Awaitable, Callable

from ..entrants import Assignment, Sample
from .beside_map import beside_map
from .giving_up import giving_up

SERVICE: dict[str, Callable[[Assignment], Awaitable[Sample]]] = {
    "giving_up": giving_up,
    "beside_map": beside_map,
}
