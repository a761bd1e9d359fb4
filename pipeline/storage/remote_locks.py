"""A folder of an object store, held by one writer: an object that only one can make, and that its maker keeps fresh.

The lock is `FOLDER/.lock`, made with a conditional request (S3's `If-None-Match: *`, Google's `ifGenerationMatch=0`).
Its holder writes it anew every BEAT_SECONDS; a lock that does not change for EXPIRY_SECONDS, by the clock of whoever
waits, is a dead one's and is taken over. A holder that finds another's name in it stops. No store's clock is asked, no
machine is named. `hf://` has no such request: there the folder is not held.
"""

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Final

from pipeline.errors import UserError
from pipeline.storage.remote import RemoteError, RemotePath

LOCK: Final = ".lock"
BEAT_SECONDS: Final = 5.0
EXPIRY_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 1.0


@contextlib.contextmanager
def hold_remote(folder: RemotePath) -> Iterator[None]:
    """Keeps others that hold this folder from writing there while the block runs.

    Raises:
        UserError: Another process holds it; or another took it over meanwhile, since this one was not heard of.
    """
    if folder.scheme == "hf":
        yield
        return
    lock, own = folder / LOCK, uuid.uuid4().hex
    _take(lock, own, folder)
    ended, lost = threading.Event(), threading.Event()
    beating = threading.Thread(target=_beat, args=(lock, own, ended, lost), daemon=True)
    beating.start()
    try:
        yield
        if lost.is_set():
            raise UserError(
                f"another process took {folder} over, since this one was not heard of: run it again"
            )
    finally:
        ended.set()
        beating.join()
        if _holder(lock) == own:
            with contextlib.suppress(OSError):
                lock.unlink(missing_ok=True)


def _content(own: str, beat: int) -> bytes:
    return json.dumps({"holder": own, "beat": beat}).encode()


def _take(lock: RemotePath, own: str, folder: RemotePath) -> None:
    seen, since = None, 0.0
    while True:
        try:
            lock.put_bytes(_content(own, 0), only_new=True)
        except FileExistsError:
            found = _read(lock)
        else:
            found = _content(own, 0)
            if seen is not None:  # whoever else saw the old one expire may have taken this one for it
                time.sleep(2 * _LOOK_SECONDS)
                found = _read(lock)
        if found is None:
            continue
        if _holder_of(found) == own:
            return
        if seen is None:
            seen, since = found, time.monotonic()
        elif found != seen:
            raise UserError(
                f"another process is writing to {folder}: wait for it to end, or choose another --out"
            )
        elif time.monotonic() - since > EXPIRY_SECONDS and _read(lock) == found:
            lock.unlink(missing_ok=True)
            continue
        time.sleep(_LOOK_SECONDS)


def _beat(lock: RemotePath, own: str, ended: threading.Event, lost: threading.Event) -> None:
    """Keep the lock fresh; a store that does not answer for a while is asked again with the next beat."""
    beat = 0
    while not ended.wait(BEAT_SECONDS):
        beat += 1
        with contextlib.suppress(RemoteError):
            if _holder_of(_read(lock) or b"") != own:
                lost.set()
                return
            lock.put_bytes(_content(own, beat))


def _read(lock: RemotePath) -> bytes | None:
    try:
        return lock.read_bytes()
    except FileNotFoundError:
        return None


def _holder(lock: RemotePath) -> str | None:
    try:
        found = _read(lock)
    except OSError:
        return None
    return None if found is None else _holder_of(found)


def _holder_of(content: bytes) -> str | None:
    try:
        return str(json.loads(content)["holder"])
    except (ValueError, TypeError, KeyError):
        return None
