"""The control groups that limit this process, from its own up to the outermost one that can be seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .system import System


class Group(NamedTuple):
    """The folder of a control group.

    Attributes:
        folder: Where its files are.
        version: Of the interface that they belong to: 1 or 2.
    """

    folder: str
    version: int


class _Mount(NamedTuple):
    """A mounted hierarchy: its `root` group is what is seen at `point`; version 2 has no list of controllers."""

    point: str
    root: str
    controllers: frozenset[str]
    version: int


def groups(system: System, controller: str) -> list[Group]:
    """Return the groups whose limits hold for this process, innermost first, of both versions where both are mounted.

    A limit of any of them holds. A container sees a part of the hierarchy only: mountinfo tells which, as the root of
    the mount. See cgroups(7) and proc_pid_mountinfo(5).

    Args:
        system: The machine and the process.
        controller: The resource, ``cpu`` or ``memory``.
    """
    paths = _own_paths(system, controller)
    mounts = _mounts(system, controller)
    found = []
    for version in (1, 2):
        of_version = [mount for mount in mounts if mount.version == version]
        found += [Group(folder, version) for folder in _upwards(of_version, paths.get(version, "/"))]
    return found


def _own_paths(system: System, controller: str) -> dict[int, str]:
    """Return the path of this process's own group, from the root of its hierarchy, by version."""
    paths = {}
    for line in (system.read("/proc/self/cgroup") or "").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if not controllers:
            paths[2] = path
        elif controller in controllers.split(","):
            paths[1] = path
    return paths


def _mounts(system: System, controller: str) -> list[_Mount]:
    """Return where the hierarchies with this controller are mounted; the usual places where that can't be read."""
    text = system.read("/proc/self/mountinfo")
    if text is None:
        usual = (controller, "cpu,cpuacct", "cpuacct,cpu") if controller == "cpu" else (controller,)
        return [
            _Mount("/sys/fs/cgroup", "/", frozenset(), 2),
            *(_Mount(f"/sys/fs/cgroup/{name}", "/", frozenset({controller}), 1) for name in usual),
        ]
    mounts = [_mount(line) for line in text.splitlines() if " - cgroup" in line]
    return [mount for mount in mounts if mount.version == 2 or controller in mount.controllers]


def _mount(line: str) -> _Mount:
    place, _, source = line.partition(" - ")
    kind, *rest = source.split()
    root, point = place.split()[3:5]
    return _Mount(_plain(point), _plain(root), frozenset(rest[-1].split(",")), 2 if kind == "cgroup2" else 1)


def _plain(path: str) -> str:
    """Return a path as it is; mountinfo writes what would break its columns in octal."""
    for character in " \t\n\\":
        path = path.replace(f"\\{ord(character):03o}", character)
    return path


def _upwards(mounts: list[_Mount], path: str) -> Iterator[str]:
    """Yield the folders of a group and of those around it, as far as a mount shows them.

    Of several mounts, those that show most of the way up are taken. Where none shows this process's group, as for one
    that another namespace put there, only the outermost group of a mount is sure to be around it.
    """
    on_the_way = [mount for mount in mounts if f"{path}/".startswith(f"{mount.root.rstrip('/')}/")]
    root = min((mount.root for mount in on_the_way), key=len, default=path)
    inside = [part for part in path[len(root) :].split("/") if part]
    parts = [] if ".." in inside else inside
    for mount in [mount for mount in on_the_way if mount.root == root] or mounts[:1]:
        yield from ("/".join([mount.point, *parts[:count]]) for count in range(len(parts), -1, -1))
