"""cli/doctor: what each check finds, and that none harms another."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import psutil
import pytest

import offloop
from offloop.cli import main
from offloop.cli.doctor import (
    Examination,
    Finding,
    Setting,
    Verdict,
    examine,
    leftovers,
    packages,
    storage,
    workers,
)
from offloop.cli.doctor.examining import CHECKS, Check, come_to_an_end
from offloop.cli.doctor.machine import cores, memory
from offloop.cli.doctor.pools import other_pools, parallelism, web_workers
from offloop.cli.doctor.screens import redacted
from offloop.cli.doctor.subject import Subject, settings, subject_of
from offloop.cli.doctor.workers import Times, findings_of
from scripts import run
from systems import MadeSystem, v2

Look = Callable[[Subject], Iterable[Finding]]


def found(look: Look, files: dict[str, str] | None = None, **facts: Any) -> list[tuple[str, str, str | None]]:
    """Return what a check says of a machine made of these files."""
    subject = subject_of(system=MadeSystem(files, **facts))
    return [(finding.verdict.value, finding.cause, finding.fix) for finding in look(subject)]


def cause(look: Look, files: dict[str, str] | None = None, **facts: Any) -> str:
    """Return the one cause that a check names."""
    ((_, text, _),) = found(look, files, **facts)
    return text


@pytest.mark.parametrize(
    ("affinity", "quota", "limit", "text"),
    [
        (4, None, None, "4 usable, all of the machine"),
        (2, None, None, "2 of 4 usable, by affinity"),
        (4, "300000 100000", None, "3 of 4 usable, by cgroup quota"),
        (2, "200000 100000", None, "2 of 4 usable, by affinity and cgroup quota"),
        (4, None, "2", "2 of 4 usable, by LOKY_MAX_CPU_COUNT"),
        (4, "50000 100000", None, "1 of 4 usable, by cgroup quota: nothing gets faster in parallel"),
    ],
)
def test_the_limit_of_cores_is_named(affinity: int, quota: str | None, limit: str | None, text: str) -> None:
    """Usable cores are told with what limits them: affinity, quota, variable, or several of these."""
    files = v2("/", {"cpu.max": quota}) if quota else {}
    environ = {"LOKY_MAX_CPU_COUNT": limit} if limit else {}
    assert cause(cores, files, cores=4, cpus=frozenset(range(affinity)), environ=environ) == text


def test_the_limit_of_memory_is_named() -> None:
    """Memory is told with who limits it; too little of it for the workers is told with what to do."""
    meminfo = {"/proc/meminfo": "MemAvailable: 8000000 kB\n"}
    group = v2("/", {"memory.max": "300000000", "memory.current": "260000000"})
    assert cause(memory, meminfo) == "8.19 GB left, by the machine"
    fix = "free memory, raise the limit, or set OFFLOOP_WORKERS=1"
    assert found(memory, {**meminfo, **group}) == [("warning", "40 MB left, by the cgroup's limit: room for 1 bare worker", fix)]


def test_wrong_variables_are_named_and_right_ones_hold() -> None:
    """A variable that can't work is an error, one that doesn't exist is to look at, and neither hides what is right."""
    environ = {"OFFLOOP_WORKERS": "many", "OFFLOOP_GRACE": "1", "OFFLOOP_RETRIES": "3", "OFFLOOP_ASCII": "1", "OFFLOOP_TOKEN": "x"}
    subject = subject_of(system=MadeSystem(environ=environ))
    assert [(finding.verdict, finding.cause, finding.fix) for finding in settings(subject)] == [
        ("warning", "OFFLOOP_GRACE is no setting of offloop, so it does nothing", "unset OFFLOOP_GRACE; did you mean OFFLOOP_GRACE_S?"),
        ("warning", "OFFLOOP_TOKEN is no setting of offloop, so it does nothing", "unset OFFLOOP_TOKEN"),
        ("error", "OFFLOOP_WORKERS=many can't work, so no session opens", "write a whole number."),
    ]
    by_name = {setting.name: setting for setting in subject.settings}
    assert by_name["retries"] == Setting(name="retries", value="3", source=offloop.SettingSource.ENVIRONMENT, variable="OFFLOOP_RETRIES")


def test_settings_that_contradict_each_other_are_named() -> None:
    """Variables that are right by themselves and can't work together are an error."""
    environ = {"OFFLOOP_LOCAL": "never", "OFFLOOP_PARALLEL": "serial"}
    assert [verdict for verdict, _, _ in found(settings, environ=environ)] == ["error"]


def test_settings_of_a_session_are_told_without_their_values() -> None:
    """Of a session's own settings functions are told by name, and arguments by number."""
    session = offloop.ParallelSession(workers=1, worker_init=print, worker_init_args=("password",))
    by_name = {setting.name: setting.value for setting in subject_of(session).settings}
    assert (by_name["worker_init"], by_name["worker_init_args"]) == ("print", "1 of them")


@pytest.mark.parametrize(
    ("environ", "text", "fix"),
    [
        ({}, "nothing keeps work serial; strategy auto, 8 workers", None),
        ({"OFFLOOP_PARALLEL": "off"}, "OFFLOOP_PARALLEL=off keeps everything in the local thread", "unset OFFLOOP_PARALLEL"),
        ({"CI": "true"}, "Under CI, auto stays serial unless told otherwise", "export OFFLOOP_PARALLEL=on"),
        ({"CI": "true", "OFFLOOP_PARALLEL": "on"}, "nothing keeps work serial; strategy auto, 8 workers", None),
        ({"OFFLOOP_PARALLEL": "serial"}, "the strategy is serial by a setting", "use auto"),
        ({"OFFLOOP_WORKERS": "1"}, "Only one worker is allowed or usable", "allow more, as by OFFLOOP_WORKERS=-1"),
    ],
)
def test_what_keeps_work_serial_is_named(environ: dict[str, str], text: str, fix: str | None) -> None:
    """Every rule that keeps work serial whatever it costs is told with how to lift it."""
    ((_, told, advice),) = found(parallelism, environ=environ)
    assert (told, advice) == (text, fix)


@pytest.mark.parametrize(
    ("environ", "text", "fix"),
    [
        ({}, "one, as far as WEB_CONCURRENCY says", None),
        ({"WEB_CONCURRENCY": "4"}, "4 with 2 workers each, on 8 usable cores", None),
        ({"WEB_CONCURRENCY": "4", "OFFLOOP_WORKERS": "4"}, "4 with 4 workers each, on 8 usable cores", "export WEB_CONCURRENCY=2 or OFFLOOP_WORKERS=2"),
        ({"WEB_CONCURRENCY": "16"}, "16 with 1 worker each, on 8 usable cores", "export WEB_CONCURRENCY=8"),
        ({"UVICORN_WORKERS": "4"}, "4 by UVICORN_WORKERS, which the web adapter doesn't read: each takes all cores", "export WEB_CONCURRENCY=4"),
        ({"GUNICORN_CMD_ARGS": "-b :80 --workers=3"}, "3 by GUNICORN_CMD_ARGS, which the web adapter doesn't read: each takes all cores", "export WEB_CONCURRENCY=3"),
    ],
)  # fmt: skip
def test_web_workers_times_workers_are_compared_with_the_cores(environ: dict[str, str], text: str, fix: str | None) -> None:
    """Processes of a web server are multiplied with their workers, by whichever variable names them."""
    ((_, told, advice),) = found(web_workers, environ=environ)
    assert (told, advice) == (text, fix)


def test_a_package_that_is_too_old_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """What offloop needs and has not, or not new enough, is told with what to install."""
    assert found(packages.packages)[0][0] == "ok"
    versions = {"loky": "3.4.1", "numpy": None}
    monkeypatch.setattr(packages, "_version", lambda name: versions.get(name, "99.0"))
    assert found(packages.packages) == [
        ("error", "missing or too old: loky>=3.7, numpy>=1.26", "pip install 'loky>=3.7' 'numpy>=1.26'"),
    ]


def test_shared_memory_is_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A memory file and /dev/shm are really made; what is refused is told with what travels instead."""

    def refused(*_: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    assert found(storage.shared_memory)[0][0] == "ok"
    with monkeypatch.context() as full:
        full.setattr(storage, "_free_bytes", lambda folder: 4096)
        assert cause(storage.shared_memory) == "memfd works, /dev/shm can't be used (4.1 kB free)"
    monkeypatch.setattr(os, "memfd_create", refused)
    ((verdict, told, fix),) = found(storage.shared_memory)
    assert verdict == "warning"
    assert told.startswith("memfd is refused (Operation not permitted), so arrays travel in unlinked files; /dev/shm has")
    assert fix is not None
    monkeypatch.setattr(storage, "_SHM", str(tmp_path / "none"))
    assert "can't be used (No such file or directory): arrays travel by" in cause(storage.shared_memory)


@pytest.fixture
def quiet_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Have /dev/shm and the temporary folder be an empty one, and no other process."""
    monkeypatch.setattr(leftovers, "_SHM", tmp_path)
    monkeypatch.setattr(leftovers.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(psutil, "process_iter", lambda attrs: iter(()))
    return tmp_path


def dead_pid() -> int:
    """Return the id of a process that has ended."""
    with psutil.Popen(["true"]) as process:
        return int(process.pid)


def test_names_and_folders_of_the_dead_are_found(quiet_places: Path) -> None:
    """What dead processes have left is told with a command that removes it; what the living hold is not."""
    assert cause(leftovers.leftovers) == "nothing is left of dead runs"
    dead = dead_pid()
    for name in (f"sem.loky-{dead}-a", f"sem.loky-{dead}-b", f"sem.loky-{os.getpid()}-c", "joblib_memmapping_folder_x"):
        (quiet_places / name).touch()
    for name in ("offloop-left; ls", "offloop-held", "other"):
        (quiet_places / name).mkdir()
        (quiet_places / name / ".offloop-lock").touch()
    with (quiet_places / "offloop-held" / ".offloop-lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert found(leftovers.leftovers) == [
            ("warning", f"2 names of dead processes in {quiet_places}", f"rm -rf {quiet_places}/sem.loky-{dead}[-_]*"),
            ("warning", "1 folder of dead sessions", f"rm -rf '{quiet_places}/offloop-left; ls'"),
        ]


def test_names_of_several_processes_make_one_pattern() -> None:
    """Names of many processes become one pattern for a shell."""
    names = ["sem.loky-7-a", "sem.loky-12-b", "joblib_memmapping_folder_7_x"]
    assert leftovers._pattern(names) == "/dev/shm/{sem.loky-{7,12}[-_]*,joblib_memmapping_folder_7[-_]*}"


class Process(SimpleNamespace):
    """A process that psutil tells of."""

    def name(self) -> str:
        return str(self.cmdline()[0])

    def cmdline(self) -> list[str]:
        return list(self.command)


def test_orphaned_workers_are_found(quiet_places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that init has adopted is told of; one of a living Python program, or of a container's first process, is not."""
    worker = ["python", "-m", "loky.backend.popen_loky_posix"]
    parents = {1: ["init"], 50: ["python", "app.py"], 60: ["systemd", "--user"]}
    facts = {11: (1, worker), 12: (50, worker), 13: (60, worker), 14: (1, ["sleep", "9"])}
    own = SimpleNamespace(real=os.getuid())
    listed = [SimpleNamespace(info={"pid": pid, "ppid": ppid, "uids": own, "cmdline": line}) for pid, (ppid, line) in facts.items()]
    monkeypatch.setattr(psutil, "process_iter", lambda attrs: iter(listed))
    monkeypatch.setattr(psutil, "Process", lambda pid: Process(command=parents[pid]))
    assert found(leftovers.leftovers) == [("warning", "2 workers of dead processes", "kill 11 13")]
    parents[1] = ["python", "serve.py"]
    assert found(leftovers.leftovers) == [("warning", "1 worker of dead processes", "kill 13")]


def test_slow_workers_are_told_with_what_to_do() -> None:
    """What was measured is well, to look at where it is far too slow, and wrong where no worker answers."""
    well = [(finding.verdict, finding.cause) for finding in findings_of(Times([0.1, 0.12], [0.00006] * 3, [0.02, 0.01]))]
    assert well == [
        ("ok", "120 ms until a worker answers"),
        ("ok", "60 µs for an empty call to a worker and back"),
        ("ok", "3.2 GB a second, to send an array of 32 MB"),
    ]
    assert [finding.verdict for finding in findings_of(Times([2.0], [0.01], [1.0]))] == ["warning"] * 3
    assert [finding.verdict for finding in findings_of(Times())] == ["error"]
    assert [finding.verdict for finding in findings_of(Times(), is_busy=True)] == ["warning"]


def test_workers_that_cannot_start_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no worker starts, the error's own text and its first cause are told."""

    async def refused(*_: object) -> None:
        raise offloop.WorkerStartError("the system refused it") from OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(workers, "_measure", refused)
    ((verdict, told, fix),) = found(workers.workers)
    assert (verdict, told) == ("error", "no worker process could be started [worker-start-failed]: the system refused it")
    assert fix is not None
    assert fix.startswith("look at ulimit -a")


def test_no_worker_is_started_where_none_may_be() -> None:
    """Where the operator keeps everything in the local thread, nothing is measured."""
    assert cause(workers.workers, environ={"OFFLOOP_PARALLEL": "off"}).startswith("not started")


def test_another_pool_is_seen_and_ours_is_not() -> None:
    """Inside an app its other pools are counted, and offloop's own workers are none of them."""
    with offloop.SyncSession(workers=1, strategy="processes") as session:
        session.run(abs, -2)
        assert subject_of().system.modules["loky.process_executor"]
        assert not any(figure for finding in other_pools(subject_of()) for figure in finding.figures["pools"])  # type: ignore[attr-defined]
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert pool.submit(abs, -3).result() == 3
        (finding,) = other_pools(subject_of())
    assert finding.figures["pools"] == {"concurrent.futures": 1}


def test_pools_that_exceed_the_cores_are_told_of() -> None:
    """Other workers and offloop's together are compared with the cores."""
    names = ["SpawnPoolWorker-1", "Dask Worker process (from Nanny)", "Process-3"]
    children = [SimpleNamespace(name=name) for name in names]
    modules = {"multiprocessing.process": SimpleNamespace(active_children=lambda: children, current_process=lambda: None)}
    text = "1 worker of multiprocessing, 1 worker of dask beside 2 of offloop, on 2 usable cores"
    assert found(other_pools, cores=2, modules=modules) == [("warning", text, "use session.executor() in its place")]


def test_no_check_stops_another() -> None:
    """A check that raises and one that hangs are told of, and those after them have their turn."""
    release = threading.Event()

    def hangs(_: Subject) -> Iterator[Finding]:
        release.wait()
        yield from ()

    def raises(_: Subject) -> Iterator[Finding]:
        raise ValueError("no luck\nat all")

    def works(_: Subject) -> Iterator[Finding]:
        yield Finding(check="last", verdict=Verdict.OK, cause="well")

    examination = examine(checks=[Check("hanging", hangs, 0.01), Check("raising", raises, 30), Check("last", works, 30)])
    assert not come_to_an_end(0.0)
    release.set()
    assert come_to_an_end(60)
    assert [(finding.check, finding.verdict, finding.cause) for finding in examination.findings] == [
        ("hanging", "warning", "could not be checked within 0.01 s"),
        ("raising", "warning", "could not be checked: ValueError: no luck"),
        ("last", "ok", "well"),
    ]
    assert (examination.n_abandoned, examination.verdict) == (1, Verdict.WARNING)


def test_a_real_examination_inside_an_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a running app, in a thread beside its loop, all checks come to an end and real workers are timed."""
    monkeypatch.setattr(workers, "LIMIT_S", 60)
    monkeypatch.setattr("offloop.cli.doctor.examining.MOST_S", 60)
    checks = [check._replace(limit_s=60) for check in CHECKS]

    async def app() -> Examination:
        async with offloop.ParallelSession(workers=1) as session:
            return await anyio.to_thread.run_sync(lambda: examine(session, checks=checks))

    examination = anyio.run(app)
    looked_at = {finding.check for finding in examination.findings}
    assert looked_at == {check.name for check in CHECKS} - {"workers"} | {"worker start", "round trip", "copy rate"}
    assert all("could not be checked" not in finding.cause for finding in examination.findings)
    assert {setting.name: setting.source for setting in examination.settings}["workers"] == "keyword"


def test_a_wrong_variable_makes_the_status_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real command whose environment is wrong says so, ends well otherwise, and has status 1."""
    monkeypatch.setenv("OFFLOOP_RETRIES", "often")
    done = run(None, "-m", "offloop", "doctor", "--json", cwd=tmp_path)
    content = json.loads(done.stdout)
    assert (done.returncode, done.stderr, content["verdict"]) == (1, "", "error")
    assert [each["check"] for each in content["findings"] if each["verdict"] == "error"] == ["settings"]


@pytest.mark.parametrize(("verdict", "status"), [(Verdict.OK, 0), (Verdict.WARNING, 0), (Verdict.ERROR, 1)])
def test_only_errors_make_the_status_1(
    verdict: Verdict, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is merely to look at is no failure."""
    finding = Finding(check="cores", verdict=verdict, cause="so")
    examination = Examination(version="1", findings=(finding,), settings=(), wall_s=0.1)
    monkeypatch.setattr("offloop.cli.doctor.examining.examine", lambda: examination)
    assert main(["doctor"]) == status
    assert "cores" in capsys.readouterr().out


def test_a_report_names_neither_users_nor_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Home folders, a temporary folder of one's own, the user's name and the host's are taken out of a report."""
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/secret/tmp")
    monkeypatch.setenv("LOGNAME", "ada")
    monkeypatch.setattr("socket.gethostname", lambda: "box-7")
    text = redacted("ada@box-7: /home/ada/x.py /Users/bob/y adagio boxes /secret/tmp/offloop-1")
    assert text == "USER@HOST: ~/x.py ~/y adagio boxes $TMPDIR/offloop-1"
