"""The check of packages: what offloop needs is there, and new enough."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata

from .findings import Finding, Verdict
from .subject import Subject

_REQUIREMENT = re.compile(r"([\w.-]+)\s*>=\s*([\d.]+)[^;]*(;.*)?")
_BESIDE = ("uvloop", "trio", "joblib", "optuna", "starlette", "pandas", "pyarrow", "polars", "scikit-learn", "torch", "rich", "tqdm")


def packages(subject: Subject) -> Iterator[Finding]:
    """Tell which versions are installed of what offloop needs, and of what it works with."""
    try:
        required = metadata.requires("offloop") or []
    except metadata.PackageNotFoundError:
        fix = "pip install offloop"
        yield Finding(check="packages", verdict=Verdict.WARNING, cause="offloop is on the path and not installed", fix=fix)
        return
    needed = {matched[1]: matched[2] for text in required if (matched := _REQUIREMENT.fullmatch(text)) and "extra" not in (matched[3] or "")}
    versions = {name: _version(name) for name in needed}
    lacking = [f"{name}>={least}" for name, least in needed.items() if _parts(versions[name]) < _parts(least)]
    beside = {name: version for name in _BESIDE if (version := _version(name)) is not None}
    figures = {"required": versions, "beside": beside}
    if lacking:
        cause = f"missing or too old: {', '.join(lacking)}"
        fix = f"pip install {' '.join(repr(each) for each in lacking)}"
        yield Finding(check="packages", verdict=Verdict.ERROR, cause=cause, fix=fix, figures=figures)
    else:
        listed = ", ".join(f"{name} {version}" for name, version in versions.items())
        yield Finding(check="packages", verdict=Verdict.OK, cause=listed, figures=figures)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _parts(version: str | None) -> tuple[int, ...]:
    """Return the numbers that a version begins with; none of one that isn't there."""
    matched = re.match(r"\d+(\.\d+)*", version or "")
    return tuple(map(int, matched[0].split("."))) if matched else ()
