"""The figures of streams: who enters, what is to be shown."""

from ..entrants import Entrant
from ..faults.from_scratch import FromScratch
from ..figures import Figure, enter
from ..goals import Goal
from .read_ahead import CHUNK
from .slow_consumer import WAYS
from .throughput import MAP, ORDERED, UNORDERED

LEAST_SHARE = 0.9  # of the map's speed
MOST_MB = 20
FLAT_MB = 2  # what allocators do by themselves
MOST_AHEAD = 4  # times workers × chunk


def throughput(name: str, what: str) -> Figure:
    """The same items through streams and through a map, by turns."""
    whole, *streams = (Entrant(contender="offloop", way=way) for way in (MAP, ORDERED, UNORDERED))
    return Figure(
        name=name,
        title=f"{what} (quick: a quarter of them): a stream against run_parallel",
        entrants=(whole, *streams),
        measures=("wall_s", "items_per_second"),
        goals=tuple(
            Goal(measure="wall_s", limit=1 / LEAST_SHARE, ours=stream.label, against=whole.label)
            for stream in streams
        ),
        rounds=9,
    )


PASSED = (Entrant(contender="offloop"), Entrant(contender="offloop", variant="auto"))
SLOWLY = tuple(Entrant(contender="offloop", way=way) for way in WAYS)
SLOWLY_ON_TRIO = Entrant(contender="offloop", way="default window", backend="trio")
AHEAD = (
    Entrant(contender="offloop", chunk=CHUNK),
    Entrant(contender="offloop", chunk=CHUNK, way="unordered"),
    Entrant(contender="offloop", chunk=1),
)

STREAM_FIGURES = (
    Figure(
        name="stream_memory",
        title="1,000,000 items through a stream (quick: 200,000): the parent's private memory, above the first look",
        entrants=PASSED,
        measures=("growth_mb", "late_mb", "items_per_second"),
        goals=tuple(
            Goal(measure=measure, limit=limit, ours=entrant.label)
            for entrant in PASSED
            for measure, limit in (("growth_mb", MOST_MB), ("late_mb", FLAT_MB))
        ),
        rounds=1,
        alone=True,
        sampler=FromScratch,
    ),
    throughput("stream_2us", "200,000 items of 2 µs"),
    throughput("stream_50us", "20,000 items of 50 µs"),
    throughput("stream_1ms", "1,000 items of 1 ms"),
    Figure(
        name="slow_consumer",
        title="an endless source, 1 ms for each result: taken from the source and not yet with the consumer, at most",
        entrants=(*SLOWLY, SLOWLY_ON_TRIO),
        measures=("over_window", "most_in_flight", "window", "items_per_second"),
        goals=tuple(
            Goal(measure="over_window", limit=0, ours=entrant.label) for entrant in (*SLOWLY, SLOWLY_ON_TRIO)
        ),
        rounds=1,
        alone=True,
        sampler=FromScratch,
    ),
    Figure(
        name="read_ahead",
        title="items of 100,000 taken while the consumer pauses for 3 s (quick: 1 s) after the first 10 results",
        entrants=(
            *AHEAD,
            *enter("mpire", CHUNK),
            *enter("joblib", CHUNK),
            *enter("pebble", CHUNK),
            *enter("loky", CHUNK),
            *enter("stdlib", CHUNK),
        ),
        measures=("ahead", "per_worker_and_chunk"),
        goals=tuple(
            Goal(measure="per_worker_and_chunk", limit=MOST_AHEAD, ours=entrant.label) for entrant in AHEAD
        ),
        rounds=1,
        alone=True,
        sampler=FromScratch,
    ),
)
