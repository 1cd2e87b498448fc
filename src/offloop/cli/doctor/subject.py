"""Whom the doctor examines: this process on this machine, as a session would see it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from ... import ParallelConfig, ParallelSession, SettingSource, SyncSession, in_worker
from ...checks import nearest
from ...errors import SettingError
from ...model import Host
from ...sensing.environment import NO_SETTINGS, VARIABLES, Environment, sense_environment
from ...sensing.host import sense_host
from ...sensing.system import System, this_system
from ...settings import session_settings
from ..amounts import counted
from .findings import Finding, Setting, Verdict

_PREFIX = "OFFLOOP_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """This process on this machine.

    Attributes:
        system: The machine and the process.
        host: What they let a session use.
        config: The settings, of the session that was given or as a new one would have them.
        sources: Where each comes from.
        problems: What is wrong with the variables of the environment.
    """

    system: System
    host: Host
    config: ParallelConfig
    sources: dict[str, SettingSource]
    problems: tuple[Finding, ...]

    @property
    def has_workers(self) -> bool:
        """Whether a session here may have worker processes."""
        host = self.host
        return not (host.is_off or host.is_worker or host.foreign_pool is not None)

    @property
    def workers(self) -> int:
        """How many workers a session has at most, by its settings and by the cores."""
        asked = self.config.workers
        return self.host.cores if asked is None or asked == -1 else min(asked, self.host.cores)

    @property
    def settings(self) -> tuple[Setting, ...]:
        """All settings."""
        variables = {variable.setting: name for name, variable in VARIABLES.items()}
        return tuple(
            Setting(
                name=field.name,
                value=_as_text(field.name, getattr(self.config, field.name)),
                source=self.sources[field.name],
                variable=variables.get(field.name),
            )
            for field in fields(ParallelConfig)
        )


def subject_of(session: ParallelSession | SyncSession | None = None, system: System | None = None) -> Subject:
    """Return this process on this machine; what is wrong with its variables is told, and left out."""
    system = system or this_system()
    problems: list[Finding] = []
    environment = _environment(system, problems)
    host = sense_host(system, is_worker=in_worker(), is_off=environment.is_off, lifts_ci=environment.lifts_ci)
    if session is not None:
        config, sources = session.config, dict(session.sources)
    else:
        try:
            config, sources = session_settings(None, {}, environment.settings)
        except SettingError as error:  # each is right by itself, and together they can't work
            problems.append(_wrong(error))
            config, sources = session_settings(None, {}, {})
    return Subject(system=system, host=host, config=config, sources=sources, problems=tuple(problems))


def _environment(system: System, problems: list[Finding]) -> Environment:
    """Return what the environment says, by those of its variables that are right."""
    right: dict[str, str] = {}
    for name in sorted(system.environ):
        if not name.upper().startswith(_PREFIX) or name.upper() in NO_SETTINGS:
            continue
        if name.upper() not in VARIABLES:
            near = nearest(name.upper(), VARIABLES, _PREFIX)
            cause = f"{name} is no setting of offloop, so it does nothing"
            fix = f"unset {name}" + ("" if near is None else f"; did you mean {near}?")
            problems.append(Finding(check="settings", verdict=Verdict.WARNING, cause=cause, fix=fix))
            continue
        try:
            sense_environment({name: system.environ[name]})
        except SettingError as error:
            problems.append(_wrong(error))
        else:
            right[name] = system.environ[name]
    return sense_environment(right)


def settings(subject: Subject) -> Iterator[Finding]:
    """Tell what is wrong with the variables of the environment."""
    yield from subject.problems
    if not subject.problems:
        n_given = sum(source is not SettingSource.DEFAULT for source in subject.sources.values())
        about = f"{counted(n_given, 'setting')} given, the others are defaults" if n_given else "all are defaults"
        yield Finding(check="settings", verdict=Verdict.OK, cause=about, figures={"n_given": n_given})


def _wrong(error: SettingError) -> Finding:
    cause = f"{error.setting}={error.value} can't work, so no session opens"
    return Finding(check="settings", verdict=Verdict.ERROR, cause=cause, fix=error.advice)


def _as_text(name: str, value: object) -> str:
    if name == "worker_init_args" and isinstance(value, tuple):
        return f"{len(value)} of them" if value else "()"
    if callable(value):
        return str(getattr(value, "__qualname__", type(value).__name__))
    return str(value)
