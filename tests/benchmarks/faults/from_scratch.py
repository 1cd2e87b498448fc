"""A guest whose scenario starts the contender itself."""

from dataclasses import replace

from ..entrants import Assignment
from ..hosting import Guest


class FromScratch(Guest):
    """Has the longest scenario's patience: 500 deaths of workers take minutes."""

    limit_s = 600.0

    def __init__(self, assignment: Assignment, *, verbose: bool = False) -> None:
        super().__init__(replace(assignment, from_scratch=True), verbose=verbose)
