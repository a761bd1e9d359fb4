"""What `llm` keeps between runs, in one SQLite file: replies, what servers refused, batches they are working on.

No key and no reply's price stands in it. It is written before anything is done with what was written, so that an
interrupted run loses nothing that was paid for.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.errors import UserError

_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, model TEXT, reply TEXT)",
    "CREATE TABLE IF NOT EXISTS refused (server TEXT, what TEXT, UNIQUE (server, what))",
    "CREATE TABLE IF NOT EXISTS batches (token TEXT PRIMARY KEY, server TEXT, batch TEXT, keys TEXT)",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Requests that were handed to a server together."""

    token: str
    """Ours, sent along as metadata: by it a batch is found whose id never reached us."""
    id: str | None
    """The server's; None where a run ended between asking for the batch and writing its id down."""
    keys: tuple[str, ...]
    """The requests, by their keys in `replies`."""


class Cache:
    """The file, open."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def reply(self, key: str) -> str | None:
        """The reply to a request, if it was answered before."""
        row = self._connection.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def keep_reply(self, key: str, model: str, reply: str) -> None:
        """Write a reply down."""
        with self._connection:
            self._connection.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?)", (key, model, reply))

    def refused(self, server: str) -> set[str]:
        """The parameters and forms of reply that a server refused."""
        rows = self._connection.execute("SELECT what FROM refused WHERE server = ?", (server,))
        return {str(row[0]) for row in rows}

    def keep_refusal(self, server: str, what: str) -> None:
        """Write down what a server refused."""
        with self._connection:
            self._connection.execute("INSERT OR IGNORE INTO refused VALUES (?, ?)", (server, what))

    def batches(self, server: str) -> list[Batch]:
        """The batches a server has not given back yet."""
        rows = self._connection.execute(
            "SELECT token, batch, keys FROM batches WHERE server = ? ORDER BY token", (server,)
        )
        return [Batch(token=token, id=id, keys=tuple(json.loads(keys))) for token, id, keys in rows]

    def keep_batch(self, server: str, token: str, id: str | None, keys: Iterable[str]) -> None:
        """Write a batch down, before it is asked for and again when its id is known."""
        row = (token, server, id, json.dumps(list(keys)))
        with self._connection:
            self._connection.execute("INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?)", row)

    def forget_batch(self, token: str) -> None:
        """Its replies are kept, or there will be none."""
        with self._connection:
            self._connection.execute("DELETE FROM batches WHERE token = ?", (token,))


@contextmanager
def open_cache(file: Path) -> Iterator[Cache]:
    """The cache of a file, made where it is missing; UserError where the file is something else."""
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(sqlite3.connect(file)) as connection:
            for table in _TABLES:
                connection.execute(table)
            yield Cache(connection)
    except sqlite3.DatabaseError as error:
        raise UserError(f"{file} is no cache of this program ({error}): name another file") from error
