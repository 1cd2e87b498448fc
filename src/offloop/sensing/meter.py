"""Measuring what working with processes costs on this host, as this process goes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..model import Host

_MEMORY = 0.8  # how much of an estimate stays when a new figure comes: a guess
_LEAST = 1e-9  # a clock that stood still must not count as no time at all
_LEAP = 3.0  # a figure that is more than this many times the estimate counts as so many times: the machine was busy


class Meter:
    """What was measured in this process, from whatever session; before that, the defaults of `Host`.

    Attributes:
        version: Grows with each figure that changes much.
    """

    def __init__(self) -> None:
        self.version = 0
        self._figures: dict[str, Any] = {}  # by attribute of Host
        self._told: dict[str, float] = {}

    def started(self, seconds: float) -> None:
        """Take in how long a worker took to answer."""
        self._take_in("worker_start_s", seconds)

    def tripped(self, seconds: float) -> None:
        """Take in how long a call to an idle worker took besides its execution."""
        self._take_in("round_trip_s", seconds)

    def _take_in(self, name: str, figure: float) -> None:
        figure = max(figure, _LEAST)
        known = self._figures.get(name)
        if known is not None:
            figure = _MEMORY * known + (1 - _MEMORY) * min(figure, _LEAP * known)
        self._figures[name] = figure
        told = self._told.get(name)
        if told is None or not 0.8 < figure / told < 1.25:
            self._told[name] = figure
            self.version += 1

    def on(self, host: Host) -> Host:
        """Return the host with what was measured."""
        return replace(host, **self._figures)


meter = Meter()
