"""What the processes of one engine tell each other while it starts.

A file in /dev/shm, named after the engine and locked by each of its processes; the kernel drops a
lock however its process ends. It tells the scheduler what the workers found out about their pages.
The scheduler comes last, and takes it away, together with the name of a store that only this engine
uses. What an engine leaves that is killed before that, the next one removes.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import re
from dataclasses import asdict

import cxlspeckv
from cxlspeckv.vllm.facts import PageFacts
from cxlspeckv.vllm.settings import ConfigError

FOLDER = pathlib.Path("/dev/shm")
PREFIX = "cxlspeckv-engine-"


def _path(engine_id: str) -> pathlib.Path:
    return FOLDER / (PREFIX + re.sub(r"[^A-Za-z0-9_-]", "_", engine_id)[:100])


def store_name(engine_id: str) -> str:
    """The name of the store of an engine whose configuration names none."""
    return f"shm:/{_path(engine_id).name}"


class EngineFile:
    """One process's hold on the file. One thread."""

    def __init__(self, engine_id: str) -> None:
        self._path = _path(engine_id)
        self._name = store_name(engine_id)
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            try:
                self._file = os.open(self._path, flags, 0o600)
            except OSError as error:
                raise ConfigError(f"{self._path}: {error.strerror}") from None
            if os.fstat(self._file).st_uid != os.geteuid():  # anybody may make files there
                os.close(self._file)
                raise ConfigError(f"{self._path} belongs to another user")
            fcntl.flock(self._file, fcntl.LOCK_SH)
            if self._is_current():
                return
            os.close(self._file)  # removed between open and lock

    def _is_current(self) -> bool:
        here = os.fstat(self._file)
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(here, os.stat(self._path))
        return False

    def publish(self, facts: PageFacts) -> None:
        """Tells the other processes of the engine."""
        text = json.dumps(asdict(facts)).encode()
        try:
            os.pwrite(self._file, text, 0)
            os.ftruncate(self._file, len(text))
        except OSError as error:
            raise ConfigError(f"{self._path}: {error.strerror}") from None

    def facts(self) -> PageFacts | None:
        """What another process of the engine told, if one did."""
        text = os.pread(self._file, 1 << 16, 0)
        return PageFacts(**json.loads(text)) if text else None

    def retire(self) -> None:
        """Every process of the engine has what it needs: takes away the file's name, and that of
        the store which nobody named. Its memory goes with the last of them, however they end.
        """
        _remove(self._path, self._name)

    def close(self) -> None:
        """Lets go."""
        os.close(self._file)


def _remove(path: pathlib.Path, name: str) -> None:
    with contextlib.suppress(cxlspeckv.Error):  # there was none
        cxlspeckv.remove_store(name)
    path.unlink(missing_ok=True)


def sweep() -> list[str]:
    """Removes what engines left behind that ended without close(); returns their names."""
    removed = []
    for path in FOLDER.glob(PREFIX + "*"):
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # gone, or somebody else's
        try:
            if os.fstat(file).st_uid == os.getuid():
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path, f"shm:/{path.name}")
                removed.append(path.name)
        except BlockingIOError:
            pass  # alive
        finally:
            os.close(file)
    return removed
