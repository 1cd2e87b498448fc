"""What commands print, at 80 columns, as it stands in these tests."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from offloop import Decision, Reason, SettingSource, Strategy
from offloop.cli import explain
from offloop.cli.doctor import Examination, Finding, Setting, Verdict, screens
from offloop.cli.measuring import Explanation
from offloop.cli.terminal import Terminal

EXAMINATION = Examination(
    version="1.0",
    findings=(
        Finding(check="cores", verdict=Verdict.OK, cause="2 of 8 usable, by cgroup quota", figures={"usable": 2}),
        Finding(
            check="shared memory",
            verdict=Verdict.WARNING,
            cause="memfd is refused (Operation not permitted), so arrays travel in unlinked files; /dev/shm has 67.1 MB free",
            fix="allow memfd_create in the sandbox's seccomp profile, or give /dev/shm room: docker run --shm-size=1g",
        ),
        Finding(
            check="leftovers",
            verdict=Verdict.WARNING,
            cause="9 names of dead processes in /dev/shm",
            fix="rm -rf /dev/shm/{sem.loky-{1001,1002,1003},joblib_memmapping_folder_{2001,2002}}[-_]*",
            is_command=True,
        ),
        Finding(check="round trip", verdict=Verdict.OK, cause="60 µs for an empty call to a worker and back"),
        Finding(check="settings", verdict=Verdict.ERROR, cause="OFFLOOP_RETRIES=often can't work, so no session opens", fix="write a whole number."),
        Finding(check="packages", verdict=Verdict.OK, cause="loky 3.7.0", figures={"beside": {"trio": "0.30"}}),
    ),
    settings=(
        Setting(name="workers", value="2", source=SettingSource.ENVIRONMENT, variable="OFFLOOP_WORKERS"),
        Setting(name="worker_init", value="None", source=SettingSource.DEFAULT, variable=None),
    ),
    wall_s=0.84,
)

DOCTOR = """\
offloop 1.0 doctor

✓ cores          2 of 8 usable, by cgroup quota
! shared memory  memfd is refused (Operation not permitted), so arrays travel in
                 unlinked files; /dev/shm has 67.1 MB free
                 fix: allow memfd_create in the sandbox's seccomp profile, or
                      give /dev/shm room: docker run --shm-size=1g
! leftovers      9 names of dead processes in /dev/shm
                 fix: rm -rf /dev/shm/{sem.loky-{1001,1002,1003},joblib_memmapping_folder_{2001,2002}}[-_]*
✓ round trip     60 µs for an empty call to a worker and back
✗ settings       OFFLOOP_RETRIES=often can't work, so no session opens
                 fix: write a whole number.
✓ packages       loky 3.7.0

setting      value  source
workers      2      environment
worker_init  None   default

6 findings: 3 well, 2 to look at, 1 wrong; 0.8 s
"""

REPORT = """\
```text
offloop 1.0 doctor

ok cores          2 of 8 usable, by cgroup quota
!  shared memory  memfd is refused (Operation not permitted), so arrays travel
                  in unlinked files; /dev/shm has 67.1 MB free
                  fix: allow memfd_create in the sandbox's seccomp profile, or
                       give /dev/shm room: docker run --shm-size=1g
!  leftovers      9 names of dead processes in /dev/shm
                  fix: rm -rf /dev/shm/{sem.loky-{1001,1002,1003},joblib_memmapping_folder_{2001,2002}}[-_]*
ok round trip     60 us for an empty call to a worker and back
X  settings       OFFLOOP_RETRIES=often can't work, so no session opens
                  fix: write a whole number.
ok packages       loky 3.7.0

setting      value  source
workers      2      environment
worker_init  None   default

6 findings: 3 well, 2 to look at, 1 wrong; 0.8 s
beside it: trio 0.30
```"""


class Page(io.StringIO):
    """A pipe that takes any character."""

    encoding = "utf-8"


def shown(show: object, value: object) -> str:
    """Return what is printed into a pipe."""
    page = Page()
    show(value, Terminal(page, {}))  # type: ignore[operator]
    return page.getvalue()


def test_the_screen_of_doctor() -> None:
    """The screen has a mark, a cause and a fix for each finding, and every setting with its source."""
    assert shown(screens.show, EXAMINATION) == DOCTOR


def test_the_report_of_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block for a report of a bug is the screen in ASCII, fenced."""
    monkeypatch.setattr("socket.gethostname", lambda: "box")
    assert screens.as_report(EXAMINATION) == REPORT


def test_the_json_of_doctor() -> None:
    """Programs get every finding, its figures included, and every setting."""
    content = json.loads(screens.as_json(EXAMINATION))
    assert content["verdict"] == "error"
    assert content["findings"][0]["figures"] == {"usable": 2}
    assert content["settings"][0] == {"name": "workers", "value": "2", "source": "environment", "variable": "OFFLOOP_WORKERS"}


FASTER = Explanation(
    decision=Decision(
        strategy=Strategy.PROCESSES,
        reason=Reason.FASTER,
        workers=2,
        fn="app.score",
        n_items=1000,
        item_s=0.00167,
        gil_held=0.11,
        payload_bytes=80_000,
        result_bytes=16,
        shared_bytes=2_000_000,
        estimated_serial_s=1.67,
        estimated_s=1.02,
        start_cost_s=0.188,
        hint="thread_safe=True would be about 1.3× faster",
    ),
    n_measured=12,
    measured_s=0.0197,
)

EXPLAINED = """\
app.score: 1,000 items → processes with 2 workers (faster)
  The estimated gain over the local thread reaches min_speedup.

  field                 value  meaning
  estimated_serial_s   1.67 s  Estimated seconds in the local thread
  estimated_s          1.02 s  Estimated seconds with the strategy chosen
  start_cost_s         188 ms  Seconds that starting workers adds to that
  item_s              1.67 ms  Seconds per item, or row, that the choice rests
                               on
  gil_held                11%  Share of the time that the work holds the GIL, 0
                               to 1
  payload_bytes         80 kB  Bytes that an item, or row, brings with it
  result_bytes           16 B  Bytes that its result brings back
  shared_bytes           2 MB  About how many bytes are bound in the function,
                               so that they travel once for all items
  workers                   2  How many workers take part
  requested              auto  The strategy asked for

  measured: 12 calls, which took 19.7 ms
  hint: thread_safe=True would be about 1.3× faster
"""


def test_the_screen_of_explain() -> None:
    """The screen has the decision, the reason's sentence, all numbers by the names that `Decision` has, and the hint."""
    assert shown(explain.show, FASTER) == EXPLAINED


def test_what_would_change_a_decision_is_told() -> None:
    """Serial work is told from which count on it would not be; a rule of the host sends to the doctor."""
    small = Decision(strategy=Strategy.SERIAL, reason=Reason.TOO_SMALL, workers=1, fn="app.f", n_items=1)
    under_ci = Decision(strategy=Strategy.SERIAL, reason=Reason.CI, workers=1, fn="app.f", n_items=1)
    cold = replace(small, forgone_s=0.2)
    text = shown(explain.show, Explanation(decision=cold, n_measured=3, measured_s=0.01, leaves_serial_at=4800))
    assert text.startswith("app.f: 1 item → serial (too_small)\n")
    assert "warm: once workers are up, about 200 ms less" in text
    assert "parallel: from about 4,800 items like the first on\n" in text
    assert "for no count of items" in shown(explain.show, Explanation(decision=small, n_measured=3, measured_s=0.01))
    assert shown(explain.show, Explanation(decision=under_ci, n_measured=0, measured_s=0.0)).endswith(
        "hint: offloop doctor tells what to change\n"
    )
