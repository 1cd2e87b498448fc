"""What an objective sees of a trial whose parameters were drawn before it began."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialView:
    """A trial as it was when it began: what an objective gets where `optimize` is told the distributions.

    It asks nothing of the caller, so it can't report or be pruned; `TrialProxy` can.

    Attributes:
        number: Of the trial in its study.
        params: The value of each parameter, by name.
        user_attrs: As they were enqueued with the trial.
        datetime_start: When it began.
    """

    number: int
    params: Mapping[str, Any]
    user_attrs: Mapping[str, Any] = field(default_factory=dict)
    datetime_start: datetime.datetime | None = None
