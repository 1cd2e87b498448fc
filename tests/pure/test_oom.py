"""sensing/oom.py: whether a process was killed to free memory, as the kernel's counters have it."""

from __future__ import annotations

import pytest

from offloop.sensing.oom import OomKills
from systems import MadeSystem, v1, v2

EVENTS = "low 0\nhigh 0\nmax 31\noom 2\noom_kill {}\noom_group_kill 0\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
VMSTAT = "nr_free_pages 400\noom_kill {}\nnuma_hit 7\n"


@pytest.mark.parametrize(
    ("files", "count"),
    [
        (v2("/a/b", {"a/b/memory.events": EVENTS.format(3), "a/memory.events": EVENTS.format(9)}), 3),
        (v2("/a/b", {"a/memory.events": EVENTS.format(9), "/proc/vmstat": VMSTAT.format(50)}), 9),
        (v1("memory", "/a/b", {"a/b/memory.oom_control": CONTROL.format(4), "memory.oom_control": CONTROL.format(8)}), 4),
        (v1("memory", "/a", {"a/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n"}), None),
        ({"/proc/vmstat": VMSTAT.format(50)}, 50),
        ({**v2("/", {}), "/proc/vmstat": VMSTAT.format(50)}, 50),
        ({**v2("/", {"memory.events": "low 0\noom_kill none\n"}), "/proc/vmstat": "nr_free_pages 400\n"}, None),
        ({}, None),
    ],
    ids=["v2", "v2, a group without", "v1", "v1, an old kernel", "no groups", "root", "unreadable", "nothing"],
)
def test_the_nearest_counter_is_taken(files: dict[str, str], count: int | None) -> None:
    """Kills are counted in the innermost group that tells, for others count their neighbours' too; else by the machine."""
    assert OomKills(MadeSystem(files)).count() == count


def made(count: int) -> tuple[MadeSystem, OomKills]:
    system = MadeSystem(v2("/", {"memory.events": EVENTS.format(count)}))
    return system, OomKills(system)


def rise_to(system: MadeSystem, count: int) -> None:
    system.files = v2("/", {"memory.events": EVENTS.format(count)})


def test_a_rise_explains_a_death() -> None:
    """A process that was killed while the counter rose was killed to free memory, and the counter is named."""
    system, kills = made(7)
    before = kills.count()
    assert kills.explain(before) == ""
    rise_to(system, 8)
    told = kills.explain(before)
    assert told.startswith("out of memory")
    assert "/sys/fs/cgroup/memory.events" in told


def test_a_kill_explains_one_death() -> None:
    """One kill is not the cause of two deaths; two kills at once are the causes of two."""
    system, kills = made(0)
    before = kills.count()
    rise_to(system, 2)
    assert [bool(kills.explain(before)) for _ in range(3)] == [True, True, False]
    rise_to(system, 3)
    assert [bool(kills.explain(before)) for _ in range(2)] == [True, False]


def test_kills_before_the_start_explain_nothing() -> None:
    """What was counted before a process was started is not what killed it."""
    system, kills = made(0)
    rise_to(system, 5)
    before = kills.count()
    assert kills.explain(before) == ""


@pytest.mark.parametrize("before", [None, 0])
def test_where_nothing_counts_nothing_is_claimed(before: int | None) -> None:
    """Where no counter can be read, at the start or at the end, no cause is made up."""
    assert OomKills(MadeSystem({})).explain(before) == ""
    assert made(3)[1].explain(None) == ""
