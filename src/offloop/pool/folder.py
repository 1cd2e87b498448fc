"""A session's private folder, for what must have a name where descriptors can't be passed."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import weakref

if sys.platform != "win32":
    import fcntl

_PREFIX = "offloop-"
_LOCK = ".offloop-lock"  # nobody else has a file of this name: what is in a folder with it may be removed


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
        try:
            root = tempfile.gettempdir()
            _sweep(root)
            self.path = tempfile.mkdtemp(prefix=_PREFIX, dir=root)
        except OSError as error:
            text = f"no folder for transport='portable' could be made ({error}); set TMPDIR to one that can be written to"
            raise OSError(error.errno, text) from error
        try:
            lock = _locked(self.path)
        except BaseException:
            shutil.rmtree(self.path, ignore_errors=True)
            raise
        self.close = weakref.finalize(self, _remove, self.path, lock, os.getpid())


def _locked(path: str) -> int:
    """Return the descriptor of the lock of a new folder; it has its name from when it is held, or it might be swept."""
    early = f"{path}/{_LOCK}-early"
    lock = os.open(early, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(early, f"{path}/{_LOCK}")
    except BaseException:
        os.close(lock)
        raise
    return lock


def _remove(path: str, lock: int, owner: int) -> None:
    if os.getpid() == owner:  # and not a process forked from it
        shutil.rmtree(path, ignore_errors=True)
    os.close(lock)


def _sweep(root: str) -> None:
    """Remove folders whose owners are gone."""
    try:
        names = os.listdir(root)
    except OSError:  # one may write to it and not look into it
        return
    for name in names:
        path = f"{root}/{name}"
        try:
            if not name.startswith(_PREFIX) or os.lstat(path).st_uid != os.getuid():
                continue
            lock = os.open(f"{path}/{_LOCK}", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:  # nothing of ours, or it is just being made
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # its owner lives
            continue
        else:
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)
