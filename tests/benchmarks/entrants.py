"""What one contender is asked to do in one figure, as plain frozen values."""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum

Sample = dict[str, list[float]]  # what one round measured, by the name of the measure


class Role(StrEnum):
    """How a contender's time is to be read."""

    OURS = "ours"
    PEER = "peer"  # runs the work in other processes, as we do
    LIMIT = "limit"  # what the machine allows, with nothing shared or returned
    REFERENCE = "reference"  # another way altogether: threads, a plain loop


ROLES = {
    "offloop": Role.OURS,
    "split": Role.LIMIT,
    "copies": Role.LIMIT,
    "thread": Role.REFERENCE,
    "serial": Role.REFERENCE,
    "serial thread": Role.REFERENCE,
}


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """One contender with the settings that it enters a figure with."""

    contender: str
    chunk: int | None = None  # None: the library's own default
    backend: str = "asyncio"  # asyncio, uvloop or trio
    variant: str = ""  # offloop: a strategy, then perhaps "thread-safe"; scripts: which script
    way: str = ""  # how its data travels, or which; the scenario knows the words
    slow: bool = False  # one timed round has to do

    @property
    def role(self) -> Role:
        return ROLES.get(self.contender, Role.PEER)

    @property
    def label(self) -> str:
        parts = [self.contender, self.variant, self.way]
        parts.append(f"chunk={self.chunk}" if self.chunk else "")
        parts.append(f"on {self.backend}" if self.backend != "asyncio" else "")
        return " ".join(part for part in parts if part)


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """An entrant, the scenario it plays, and the size of that scenario on this host."""

    entrant: Entrant
    scenario: str
    workers: int
    iterations_per_ms: int
    seconds: float
    quick: bool = False
    watched: bool = False  # its workers' memory is read meanwhile, where the scenario can
    from_scratch: bool = False  # the scenario starts the contender itself, and ends it

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Assignment":
        fields = json.loads(text)
        return cls(**fields | {"entrant": Entrant(**fields["entrant"])})
