"""The ledger: what is known of every file, run and model, in SQLite (write-ahead log).

A night changes it in few transactions, each whole or not at all; what a kill leaves between two
of them is found again by `kmdist.nightly.night` from the runs on the disk.
A lock that dies with its process lets one night at a time change it.

A file's row: where it is (`path`, bytes of the file system; `name` in runs), what was there when
it was last looked at (`size`, `mtime_ns`, `ctime_ns`, `next_hash`, `observed_s`), its `state`, and
its labels: the latest `run` that holds some, `label_name` there, `model`; `hash` is of the contents
that were labelled or quarantined. `going` is the run that is being made with it; `gone` says that
it was not there last night. Of all labels of each run, also those that a later run stands for,
`labels` has the digest of what was written.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypedDict

import msgspec

from kmdist.errors import KmdistError
from kmdist.typed_data import converted

LEDGER = "ledger.sqlite"
"""Its name in the results folder."""

WAITING: Final = "waiting"
"""Still being written, or too young."""
PENDING: Final = "pending"
"""To be labelled."""
DONE: Final = "done"
QUARANTINED: Final = "quarantined"

SCHEMA = 2

_NOT_DAMAGE = frozenset({
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
})  # fmt: skip
"""Errors of SQLite that say nothing of what the file holds."""

_TABLES = """
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, name BLOB NOT NULL, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,
    hash TEXT, next_hash TEXT, observed_s REAL, state TEXT NOT NULL, error TEXT, run TEXT,
    label_name BLOB, model INTEGER, going TEXT, gone INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (
    run TEXT PRIMARY KEY, model INTEGER NOT NULL, state TEXT NOT NULL, inertia REAL, pixels INTEGER,
    drift REAL, digest TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS labels (
    run TEXT, name BLOB, digest TEXT NOT NULL, PRIMARY KEY (run, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS models (number INTEGER PRIMARY KEY, made_s REAL NOT NULL);
CREATE TABLE IF NOT EXISTS sample (path BLOB PRIMARY KEY, name BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS files_going ON files (going) WHERE going IS NOT NULL;
CREATE INDEX IF NOT EXISTS files_run ON files (run);
"""

_FROM_1 = """
INSERT OR IGNORE INTO labels
    SELECT run, label_name, digest FROM files WHERE run IS NOT NULL AND digest IS NOT NULL
"""
"""From version 1, which had the digest of a file's latest labels alone, in a column of files."""


class LedgerDamagedError(KmdistError):
    """What the ledger holds is not what was written."""


@dataclass
class FileRow:
    """One file, as the ledger's module docstring says."""

    path: bytes
    name: str
    size: int = -1
    mtime_ns: int = -1
    ctime_ns: int = -1
    hash: str | None = None
    next_hash: str | None = None
    observed_s: float = 0.0
    state: Literal["waiting", "pending", "done", "quarantined"] = PENDING
    error: str | None = None
    run: str | None = None
    label_name: str | None = None
    model: int | None = None
    going: str | None = None
    gone: int = 0


class RunRow(TypedDict):
    """One run: its stamp and the model it was labelled with; once published, what it is."""

    run: Annotated[str, msgspec.Meta(pattern=r"^\d{8}T\d{6}Z$")]
    model: int
    inertia: float | None
    pixels: int | None
    drift: float | None
    digest: str | None


_COLUMNS = tuple(f.name for f in fields(FileRow))
_NAMES = (_COLUMNS.index("name"), _COLUMNS.index("label_name"))
_ERROR = _COLUMNS.index("error")
_UPSERT = (
    f"INSERT INTO files ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
    "ON CONFLICT(path) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])
)


class Ledger:
    """An open ledger. Errors of SQLite come out as `KmdistError` with its path."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, to_read: bool = False) -> Iterator["Ledger"]:
        """Open a ledger, made where there is none; to read it where its folder cannot be written.

        Parameters
        ----------
        to_read : only, without the lock: one of an earlier version is read from a copy in memory.

        Raises
        ------
        KmdistError : it is damaged, of a later version, or cannot be written.
        """
        with cls._plain_errors(path):
            place, readonly = str(path), path.is_file() and not os.access(path.parent, os.W_OK)
            if readonly:  # without a log there is no writer: SQLite need not make one to read
                log = path.with_name(f"{path.name}-wal").exists()
                place = f"{path.absolute().as_uri()}?{'mode=ro' if log else 'immutable=1'}"
            connection = sqlite3.connect(place, isolation_level=None, timeout=30, uri=readonly)
            try:
                if not readonly:
                    connection.execute("PRAGMA journal_mode=WAL")
                    connection.execute("PRAGMA synchronous=FULL")
                version = _version(connection)
                if version > SCHEMA:
                    raise KmdistError(f"{path}: ledger of version {version}; update kmdist")
                if 0 < version < SCHEMA and (readonly or to_read):
                    original, connection = (
                        connection,
                        sqlite3.connect(":memory:", isolation_level=None),
                    )
                    with closing(original):
                        original.backup(connection)
                if version < SCHEMA:
                    _bring_up_to_date(connection)
                yield cls(path, connection)
            finally:
                connection.close()

    @staticmethod
    @contextmanager
    def _plain_errors(path: Path) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError, msgspec.ValidationError) as error:
            # Not in those of Python's module itself; extended codes carry the code in 8 bits.
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
            if code in _NOT_DAMAGE:
                raise KmdistError(
                    f"{path}: {error}. What is finished is kept: make room, or let this user "
                    "write there, and run the next night"
                ) from error
            raise LedgerDamagedError(
                f"{path} is damaged: {error}. `kmdist nightly repair` rebuilds it from the runs"
            ) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written within, or nothing."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def files(self, where: str = "", *values: Any) -> dict[bytes, FileRow]:
        """Rows of files, by path; `where` is SQL of this package, `values` its parameters."""
        condition = f" WHERE {where}" if where else ""
        rows = self._connection.execute(
            f"SELECT {', '.join(_COLUMNS)} FROM files{condition} ORDER BY path", values
        )
        return {row[0]: _as_read(row) for row in rows}

    def put_files(self, rows: Iterable[FileRow]) -> None:
        """Add rows, or replace those of the same paths."""
        self._connection.executemany(
            _UPSERT,
            (_as_stored(tuple(getattr(row, column) for column in _COLUMNS)) for row in rows),
        )

    def counts(self) -> dict[str, int]:
        """Files by state; those gone under ``vanished`` alone."""
        rows = self._connection.execute(
            "SELECT CASE WHEN gone THEN 'vanished' ELSE state END, COUNT(*) FROM files GROUP BY 1"
        )
        return dict(rows)

    def start_run(self, run: str, model: int) -> None:
        """Note a run before it begins."""
        self._connection.execute(
            "INSERT OR REPLACE INTO runs (run, model, state) VALUES (?, ?, 'started')",
            (run, model),
        )

    def finish_run(self, run: str, result: Mapping[str, Any], digests: Mapping[str, str]) -> None:
        """Note what a published run is (inertia, pixels, drift, digest) and of labels by name."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO labels VALUES (?, ?, ?)",
            ((run, os.fsencode(name), digest) for name, digest in digests.items()),
        )
        self._connection.execute(
            "UPDATE runs SET state = 'published', inertia = :inertia, pixels = :pixels, "
            "drift = :drift, digest = :digest WHERE run = :run",
            {**result, "run": run},
        )

    def drop_run(self, run: str) -> None:
        """Forget a run that came to nothing; its files are to be labelled still."""
        self._connection.execute("UPDATE files SET going = NULL WHERE going = ?", (run,))
        self._connection.execute("DELETE FROM runs WHERE run = ?", (run,))
        self._connection.execute("DELETE FROM labels WHERE run = ?", (run,))

    def labels(self, run: str) -> dict[str, str]:
        """Digests of the labels of a published run, by name there."""
        rows = self._connection.execute(
            "SELECT name, digest FROM labels WHERE run = ? ORDER BY name", (run,)
        )
        return converted({_as_text(name): digest for name, digest in rows}, dict[str, str])

    def drop_labels(self, run: str, name: str) -> None:
        """Forget labels of a run that are lost."""
        self._connection.execute(
            "DELETE FROM labels WHERE run = ? AND name = ?", (run, os.fsencode(name))
        )

    def require_known(self) -> None:
        """Refuse to begin anew where runs are there and the ledger is lost or empty."""
        if not (self.runs("published") or self.runs("started")):
            require_no_runs(self.path)

    def runs(self, state: str) -> list[RunRow]:
        """Runs of a state, oldest first."""
        rows = self._connection.execute(
            "SELECT run, model, inertia, pixels, drift, digest FROM runs WHERE state = ? "
            "ORDER BY run",
            (state,),
        )
        names = tuple(RunRow.__annotations__)
        found = [dict(zip(names, row, strict=True)) for row in rows]
        return converted(found, list[RunRow])

    def models(self) -> dict[int, float]:
        """When each model was made, seconds since 1970."""
        rows = self._connection.execute("SELECT number, made_s FROM models ORDER BY number")
        return converted(dict(rows), dict[int, float])

    def model_numbers(self) -> set[int]:
        """Numbers of all models that were made, or that runs were labelled with."""
        return {*self.models(), *(run["model"] for run in self.runs("published"))}

    def add_model(self, number: int, made_s: float) -> None:
        """Note a published model, and that its sample is not needed any more."""
        with self.transaction():
            self._connection.execute(
                "INSERT OR IGNORE INTO models (number, made_s) VALUES (?, ?)", (number, made_s)
            )
            self._connection.execute("DELETE FROM sample")

    def sample(self) -> list[tuple[bytes, str]]:
        """Paths and names of the images a model is being fitted to."""
        rows = self._connection.execute("SELECT path, name FROM sample ORDER BY path")
        return [(path, os.fsdecode(name)) for path, name in rows]

    def set_sample(self, files: Iterable[tuple[bytes, str]]) -> None:
        """Note the images a model will be fitted to, so that an interrupted fit goes on."""
        with self.transaction():
            self._connection.execute("DELETE FROM sample")
            self._connection.executemany(
                "INSERT INTO sample VALUES (?, ?)",
                ((path, os.fsencode(name)) for path, name in files),
            )

    def damage(self) -> list[str]:
        """What SQLite finds wrong with its own file."""
        found = [str(row[0]) for row in self._connection.execute("PRAGMA integrity_check")]
        return [] if found == ["ok"] else found


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Make what an empty ledger, or one of an earlier version, lacks; whole or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    statements = _TABLES.split(";")
    if _version(connection) == 1:  # now that nobody else can bring it up to date
        statements.append(_FROM_1)
    for statement in (*statements, f"PRAGMA user_version={SCHEMA}"):
        connection.execute(statement)
    connection.execute("COMMIT")


def _as_stored(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Names as the bytes of the file system, which need not be text."""
    stored = list(row)
    for column in _NAMES:
        if stored[column] is not None:
            stored[column] = os.fsencode(stored[column])
    if stored[_ERROR] is not None:
        stored[_ERROR] = stored[_ERROR].encode("utf-8", "backslashreplace").decode()
    return tuple(stored)


def _as_read(row: tuple[Any, ...]) -> FileRow:
    read = dict(zip(_COLUMNS, row, strict=True))
    for name in ("name", "label_name"):
        read[name] = _as_text(read[name])
    return converted(read, FileRow)


def _as_text(name: Any) -> Any:
    return os.fsdecode(name) if isinstance(name, bytes) else name


def require_no_runs(path: Path) -> None:
    """Refuse to take a ledger for new beside which there are runs.

    Raises
    ------
    KmdistError : there are some.
    """
    runs = path.with_name("runs")
    if any(runs.glob("*.zarr")):
        raise KmdistError(
            f"{path} is lost or empty, and there are runs in {runs}: `kmdist nightly repair` "
            "rebuilds it from them"
        )


class LockHeldError(KmdistError):
    """Another night is running on the same results: exit code 75 (sysexits.h, EX_TEMPFAIL)."""

    exit_code = 75


@contextmanager
def hold_lock(results: Path) -> Iterator[None]:
    """Hold the lock of a results folder.

    The kernel frees it when the process ends, however it ends; the file that stays means
    nothing. Workers are started afresh and do not inherit it.

    Raises
    ------
    LockHeldError : another process holds it.
    KmdistError : the folder cannot be written.
    """
    path = results / "lock"
    try:
        results.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise KmdistError(f"{path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise LockHeldError(
                f"another night is running on {results} (process {owner}); this one ends here"
            ) from error
        except OSError as error:
            raise KmdistError(
                f"{path}: this file system has no locks ({error.strerror}); keep the results "
                "where flock works, so that two nights cannot meet"
            ) from error
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            # Who holds it is a courtesy to others; on a full disk the lock itself still works.
            pass
        yield
    finally:
        os.close(descriptor)
