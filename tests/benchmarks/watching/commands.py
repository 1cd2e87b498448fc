"""The figure ``command_line``: how long commands take, from start to exit."""

from ..entrants import Assignment, Entrant, Sample
from ..figures import Figure
from ..goals import Goal
from ..scripts import run_python


class Command:
    """One command of ``python -m offloop``, named after its entrant, beside a bare interpreter."""

    remark = ""

    def __init__(self, assignment: Assignment) -> None:
        self._arguments = assignment.entrant.variant.split()

    def sample(self) -> Sample:
        """Run it once."""
        return {"wall_s": [run_python("-m", "offloop", *self._arguments)[0]], "bare_s": [run_python("-c", "pass")[0]]}

    def close(self) -> int:
        """Nothing was started."""
        return 0


def _command(text: str) -> Entrant:
    return Entrant(contender="offloop", variant=text)


COMMANDS = (
    Figure(
        name="command_line",
        title="commands from start to exit",
        entrants=tuple(_command(text) for text in ("--help", "bench --help", "doctor", "doctor --json")),
        measures=("wall_s", "bare_s"),
        goals=(
            Goal(measure="wall_s", limit=0.150, ours="offloop --help"),
            Goal(measure="wall_s", limit=5.0, ours="offloop doctor"),
        ),
        rounds=15,
        sampler=Command,
    ),
)
