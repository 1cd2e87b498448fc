"""How many workers one process of a web service has, and its other settings that differ from a program's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...events import Guidance, WorkersCapped
from ...model import Strategy
from ...sensing.environment import sense_environment
from ...sensing.host import sense_host
from ...sensing.system import this_system
from ...settings import ParallelConfig, Settings, SettingSource, session_settings
from ...telemetry import emit

_PENDING_PER_WORKER = 32  # calls; a guess: at 10 ms each the last of them waits for a third of a second


@dataclass(frozen=True, slots=True, kw_only=True)
class WebWorkersOvercommitted(Guidance):
    """Guidance once per process: the processes of the web server have more workers together than there are usable cores.

    Attributes:
        web_workers: Processes of the web server, as ``WEB_CONCURRENCY`` says.
        workers: Workers of each of them.
        usable_cores: How many cores there are to use.
    """

    level = WorkersCapped.level

    topic: str = "WEB_CONCURRENCY"
    web_workers: int
    workers: int
    usable_cores: int


_told: set[type[Guidance]] = set()


def web_settings(config: ParallelConfig | None, given: Settings) -> Settings:
    """Return the settings that a web service's session is given: its keywords, and defaults for what is set nowhere else.

    ``workers``: the usable cores divided among the processes of the web server, ``WEB_CONCURRENCY``, and at least 1.
    ``max_pending``: 32 for each of them. ``local``: ``never``, so that no item runs in the process that serves, unless the
    strategy is ``serial`` or ``threads``.

    Raises:
        SettingError: As for `ParallelSession`.
        SettingTypeError: As for `ParallelSession`.
    """
    system = this_system()
    environment = sense_environment(system.environ)
    host = sense_host(system, is_worker=False, is_off=environment.is_off, lifts_ci=environment.lifts_ci)
    checked, sources = session_settings(config, given, environment.settings)
    web_workers = web_concurrency(system.environ)
    asked = checked.workers
    if sources["workers"] is SettingSource.DEFAULT:
        asked = max(1, host.cores // web_workers)
    workers = host.cores if asked is None or asked == -1 else min(asked, host.cores)
    has_workers = checked.strategy in (Strategy.AUTO, Strategy.PROCESSES) and not environment.is_off
    if has_workers and web_workers > 1 and web_workers * workers > host.cores:
        _tell_overcommitted(web_workers, workers, host.cores)
    defaults: dict[str, Any] = {"workers": workers, "max_pending": _PENDING_PER_WORKER * workers}
    if checked.strategy in (Strategy.AUTO, Strategy.PROCESSES):
        defaults["local"] = "never"
    chosen: Settings = {**given}
    for name, value in defaults.items():
        if sources[name] is SettingSource.DEFAULT:
            chosen[name] = value  # type: ignore[literal-required]
    return chosen


def web_concurrency(environ: Mapping[str, str]) -> int:
    """Return how many processes serve, by the variable that uvicorn, gunicorn and platforms read; 1 if it doesn't say."""
    text = environ.get("WEB_CONCURRENCY", "").strip()
    return max(1, int(text)) if text.isascii() and text.isdecimal() and len(text) < 6 else 1


def _tell_overcommitted(web_workers: int, workers: int, cores: int) -> None:
    if WebWorkersOvercommitted in _told:
        return
    _told.add(WebWorkersOvercommitted)
    ways = [f"WEB_CONCURRENCY={max(1, cores // workers)}"]
    if cores >= web_workers:
        ways.append(f"workers={cores // web_workers}")
    advice = (
        f"{web_workers} web workers with {workers} workers each are {web_workers * workers} processes that compute, "
        f"and there are {cores} usable cores: write {' or '.join(ways)}"
    )
    emit(WebWorkersOvercommitted(advice=advice, web_workers=web_workers, workers=workers, usable_cores=cores))
