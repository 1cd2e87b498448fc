"""A session's private folder, for what must have a name where descriptors can't be passed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref

_PREFIX = "offloop-"
_LOCK = "lock"


class PrivateFolder:
    """A folder that only this user can enter; removed by `close`, at exit, or by the next one where neither happened.

    Its owner holds a lock on a file in it for as long as it lives, so that the next can tell, also from another
    container that shares the folder's file system.

    Attributes:
        path: Where it is.

    Raises:
        OSError: There is no temporary folder that could be written to; TMPDIR says where to look.
    """

    def __init__(self) -> None:
        root = tempfile.gettempdir()
        _sweep(root)
        self.path = tempfile.mkdtemp(prefix=_PREFIX, dir=root)
        lock = os.open(f"{self.path}/{_LOCK}", os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        self.close = weakref.finalize(self, _remove, self.path, lock, os.getpid())


def _remove(path: str, lock: int, owner: int) -> None:
    os.close(lock)
    if os.getpid() == owner:  # and not a process forked from it
        shutil.rmtree(path, ignore_errors=True)


def _sweep(root: str) -> None:
    """Remove folders whose owners are gone."""
    for entry in os.scandir(root):
        try:
            if not entry.name.startswith(_PREFIX) or entry.stat(follow_symlinks=False).st_uid != os.getuid():
                continue
            lock = os.open(f"{entry.path}/{_LOCK}", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:  # nothing of ours, or it is just being made
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # its owner lives
            continue
        else:
            shutil.rmtree(entry.path, ignore_errors=True)
        finally:
            os.close(lock)
