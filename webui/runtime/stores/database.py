"""The file behind the chat store: opened only when it is sound, mended from a backup when it is not, never overwritten.

A commit is acknowledged when it is on the disk (``synchronous=FULL``), so that neither ``kill -9`` nor a power cut
takes back what a person was told is saved. The progress of a reply does not wait for the disk (``NORMAL``): it is in
the journal, which belongs to the system and not to the process, so ``kill -9`` loses nothing of it either. One
connection writes; another reads, so that a long search does not hold up a reply.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from webui.core.errors import DiskFull, StoreError
from webui.runtime.stores import backups, files
from webui.runtime.stores.schema import APPLICATION, MIGRATIONS, REINDEX

WAIT = 5.0  # seconds to wait for another process that holds the file


class Database:
    """An SQLite file in a folder. ``notices`` are for the person; ``readonly`` says why nothing is saved, or is ""."""

    def __init__(
        self, folder: Path, name: str = "chats", migrations: Sequence[str] = MIGRATIONS, wait: float = WAIT
    ) -> None:
        self.folder = folder
        self.path = folder / f"{name}.sqlite3"
        self.copies = backups.Backups(folder / "backups", name)
        self.notices: list[str] = []
        self.readonly = ""
        self._migrations = migrations
        self._wait = wait
        self._writing = threading.RLock()
        self._reading = threading.RLock()
        self._scratch: Path | None = None
        with self.explained():
            self._writer, self._reader = self._open()

    # ---- use

    @contextlib.contextmanager
    def transaction(self, *, progress: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction that is on the disk when the block ends, or has changed nothing. Raises StoreError or DiskFull.

        ``progress`` does not wait for the disk: safe from ``kill -9``; a power cut may take back the last seconds.
        """
        with self._writing, self.explained():
            if self.readonly:
                raise StoreError(self.readonly, "Nothing is saved until then.")
            self._writer.execute(f"PRAGMA synchronous = {'NORMAL' if progress else 'FULL'}")
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection for reading; waits for other readers, not for writers."""
        with self._reading, self.explained():
            yield self._reader

    def changes(self) -> int:
        """A number that is another one when another process has changed the file."""
        with self._writing, self.explained():
            return int(self._writer.execute("PRAGMA data_version").fetchone()[0])

    def reindex(self) -> None:
        """Make the search indexes anew from the messages."""
        with self._writing, self.explained():
            self._script(REINDEX)

    def close(self) -> None:
        """Bring everything into the one file and let it go. A closed database stays closed."""
        with self._writing, self._reading:
            self._reader.close()
            with contextlib.suppress(sqlite3.Error):
                if not self.readonly:
                    self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._writer.close()
            if self._scratch is not None:
                shutil.rmtree(self._scratch, ignore_errors=True)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn SQLite's errors into sentences that name the folder."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def _explain(self, error: sqlite3.Error) -> StoreError:
        code = getattr(error, "sqlite_errorcode", 0) or 0
        if code & 0xFF == sqlite3.SQLITE_FULL or code in (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE):
            return files.disk_full(self.folder)
        if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StoreError(
                f"Another program has held {self.path} for more than {self._wait:g} seconds.",
                "Close the other program that uses this folder and try again.",
            )
        if code & 0xFF in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
            return StoreError(f"{self.folder} cannot be written.", "Check who owns the folder and who may write to it.")
        if code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return StoreError(
                f"{self.path} is damaged.", "Restart: it is then kept aside and the latest backup comes back."
            )
        return StoreError(f"{self.path} failed: {error}.", "Try again; if it stays so, restart.")

    # ---- opening

    def _open(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        try:
            files.private_folder(self.folder)
            writable = self._writable()
        except StoreError:
            writable = False
        if not writable:
            return self._open_readonly(f"The folder {self.folder} cannot be written: chats can be read, not saved.")
        try:
            return self._open_writable()
        except (sqlite3.Error, StoreError) as error:
            explained = self._explain(error) if isinstance(error, sqlite3.Error) else error
            if not isinstance(explained, DiskFull) and not _no_room(self.folder):
                raise
            return self._open_readonly(
                f"The disk is full: the chats in {self.folder} can be read, not saved. "
                "Free some space and start again.",
                immutable=True,
            )

    def _open_writable(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        files.sweep(self.folder)
        self._refuse_unsound()
        if not self.path.exists():
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        found = _format(self.path)
        if found > len(self._migrations):
            return self._open_readonly(
                f"The chats in {self.folder} were written by a newer version of Patchbay: "
                "they can be read, not changed. Update Patchbay to go on with them."
            )
        writer = self._connect(str(self.path))
        try:
            writer.execute("PRAGMA journal_mode = WAL")
            self._migrate(writer, found)
            reader = self._connect(self.path.absolute().as_uri() + "?mode=ro")
        except BaseException:
            writer.close()
            raise
        return writer, reader

    def _writable(self) -> bool:
        """Whether the file and its folder take changes."""
        if not os.access(self.folder, os.W_OK | os.X_OK):
            return False
        return not self.path.exists() or os.access(self.path, os.R_OK | os.W_OK)

    def _refuse_unsound(self) -> None:
        """Move a damaged file aside and put the latest sound backup in its place; say so."""
        journal = self.path.with_name(self.path.name + "-wal")
        there = self.path.exists()
        if not there or self.path.stat().st_size == 0:
            saved = self.copies.newest_sound(sound)
            if not there and journal.exists():
                files.set_aside(journal, "corrupt")
            if saved is None:
                return
            if not there:
                self.notices.append(
                    f"{self.path} is gone; a new one was begun. Backups of your chats are in {self.copies.folder}."
                )
                return
            self._restore(saved, "was empty")
        elif not (whole := sound(self.path)) or _stale(self.path, journal):
            if journal.exists():  # perhaps only the journal is wrong
                journal = files.set_aside(journal, "corrupt")
                self._drop("-shm")
                if whole or sound(self.path):
                    self.notices.append(
                        f"The journal of {self.path.name} did not fit it; it is kept as {journal.name}. "
                        "The last changes before the crash may be missing."
                    )
                    return
            self._restore(self.copies.newest_sound(sound), "was damaged")

    def _restore(self, saved: Path | None, what: str) -> None:
        kept = files.set_aside(self.path, "corrupt")
        for ending in ("-wal", "-shm"):
            self._drop(ending)
        if saved is None:
            self.notices.append(
                f"{self.path} {what} and there was no backup of it; a new one was begun. It is kept as {kept.name}."
            )
            return
        with files.explained(self.folder):
            temporary = self.path.with_name(files.TEMPORARY + self.path.name)
            shutil.copyfile(saved, temporary)
            os.chmod(temporary, 0o600)
            os.replace(temporary, self.path)
            files.sync_folder(self.folder)
        when = backups.described(saved)
        self.notices.append(
            f"{self.path} {what}; the backup of {when} was restored. The old file is kept as {kept.name}."
        )

    def _drop(self, ending: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path.with_name(self.path.name + ending).unlink()

    def _migrate(self, connection: sqlite3.Connection, found: int) -> None:
        if 0 < found < len(self._migrations):
            self.copies.save(connection, label=f"format{found}")
        for number in range(found, len(self._migrations)):
            try:
                self._run(
                    connection,
                    f"{self._migrations[number]}; PRAGMA application_id = {APPLICATION}; "
                    f"PRAGMA user_version = {number + 1};",
                )
            except sqlite3.Error as error:
                if isinstance(full := self._explain(error), DiskFull):
                    raise full from error
                raise StoreError(
                    f"The chats in {self.folder} could not be brought to format {number + 1}: {error}.",
                    f"Nothing was changed; a backup is in {self.copies.folder}.",
                ) from error

    def _script(self, text: str) -> None:
        self._run(self._writer, text)

    @staticmethod
    def _run(connection: sqlite3.Connection, text: str) -> None:
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {text} COMMIT;")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _open_readonly(self, why: str, immutable: bool = False) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        """The file as it can be read without writing a byte beside it; an empty store when it cannot be read at all."""
        self.readonly = why
        self.notices.append(why)
        journal = self.path.with_name(self.path.name + "-wal")
        place = f"{self.path.absolute().as_uri()}?mode=ro"
        try:
            if not immutable and os.access(self.folder, os.W_OK):
                pass
            else:
                place = self._scratch_copy(journal) or f"{place}&immutable=1"
            return self._connect(place, check=True), self._connect(place)
        except (OSError, sqlite3.Error):
            empty = [sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None) for _ in range(2)]
            for connection in empty:
                self._run(connection, self._migrations[0] + ";" if self._migrations else "")
            return empty[0], empty[1]

    def _scratch_copy(self, journal: Path) -> str:
        """A copy elsewhere of a file with a journal, because SQLite needs a place beside a journal; "" without one."""
        if not journal.exists() or not journal.stat().st_size:
            return ""
        self._scratch = Path(tempfile.mkdtemp(prefix="patchbay-"))
        try:
            for path in (self.path, journal):
                shutil.copyfile(path, self._scratch / path.name)
        except OSError:
            self.notices.append(f"The last changes are in {journal.name} and not shown; they come back with the space.")
            return ""
        return f"{(self._scratch / self.path.name).as_uri()}?mode=ro"

    def _connect(self, place: str, check: bool = False) -> sqlite3.Connection:
        connection = sqlite3.connect(
            place, uri=place.startswith("file:"), timeout=self._wait, check_same_thread=False, isolation_level=None
        )
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA cache_size = -16000")
        if check:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        return connection


#: Errors that say nothing about the file.
_SURROUNDINGS = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
}


def _no_room(folder: Path) -> bool:
    """Whether not even a small file fits into the folder."""
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=files.TEMPORARY) as file:
            file.write(bytes(65536))
            file.flush()
    except OSError:
        return True
    return False


def sound(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with the file. Changes nothing, not even by taking the journal in."""
    try:
        with contextlib.closing(_reading(path)) as connection:
            said = [str(row[0]) for row in connection.execute("PRAGMA quick_check(20)")]
            return all(line == "ok" or "FTS5" in line for line in said)  # a search index is made anew when it is needed
    except sqlite3.Error as error:
        if (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF in _SURROUNDINGS:
            raise  # the disk or another program, not the file
        return False


def _stale(path: Path, journal: Path) -> bool:
    """Whether the journal would take the file back to an earlier state, or belongs to another file altogether."""
    if not journal.exists() or not journal.stat().st_size:
        return False
    query = "SELECT identity, (SELECT coalesce(max(position), 0) FROM chats) FROM about"
    try:
        with contextlib.closing(_reading(path, "&immutable=1")) as connection:
            identity, position = connection.execute(query).fetchone()
    except (sqlite3.Error, TypeError):
        return False  # without its journal the file says nothing yet
    try:
        with contextlib.closing(_reading(path)) as connection:
            merged = connection.execute(query).fetchone()
    except sqlite3.Error:
        return True
    return merged is None or merged[0] != identity or merged[1] < position


def _format(path: Path) -> int:
    with contextlib.closing(_reading(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _reading(path: Path, more: str = "") -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{more}", uri=True, timeout=WAIT)
