"""ClickHouse's engine (chdb) and DuckDB, each in a process of its own.

The process opens one database, answers one statement after another, and measures itself, so that
neither Python's start nor the way between the processes is in a figure.
"""

from __future__ import annotations

import datetime
import json
import multiprocessing
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

from data import COUNTRIES, PLANS, TYPES, Dataset
from measure import Load, closed_loop, peak_memory
from questions import Rows

Statements = tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """How a peer keeps the events."""

    name: str
    orders: dict[str, str]
    """Every sort order that is tried: the table's name, and what it is sorted by."""
    size: str
    """Asks for the bytes of a table on disk."""


CHDB = Kind(
    "chdb",
    {
        "type_day_user": "event_type, toDate(time), user_id, time",
        "hour_type_user": "toStartOfHour(time), event_type, user_id",
        "user_time": "user_id, time",
    },
    "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table = '{table}'",
)
DUCKDB = Kind(
    "duckdb",
    {"by_time": "time", "user_time": "user_id, time"},
    "SELECT count(DISTINCT block_id) * 262144 FROM pragma_storage_info('{table}')",
)


class Database(Protocol):
    """One connection."""

    version: str

    def execute(self, statement: str) -> object:
        """Executes a statement to its end; what comes back still is the engine's own."""

    def rows(self, result: object) -> Rows:
        """The rows of what `execute` gave."""

    def another(self) -> Database:
        """Another connection to the same database, for another thread."""


class Chdb:
    """ClickHouse's engine."""

    def __init__(self, path: str, threads: int) -> None:
        import chdb

        self._path, self._threads = path, threads
        self._connection = chdb.connect(path)
        self._connection.query(f"SET max_threads = {threads}")
        self.version = self.rows(self.execute("SELECT version()"))[0][0]

    def execute(self, statement: str) -> object:
        return self._connection.query(statement, "JSONCompactEachRow")

    def rows(self, result: Any) -> Rows:
        return [tuple(json.loads(line)) for line in result.bytes().splitlines()]

    def another(self) -> Chdb:
        return Chdb(self._path, self._threads)


class Duckdb:
    """DuckDB."""

    def __init__(self, path: str, threads: int) -> None:
        import duckdb

        self._connection = duckdb.connect(f"{path}/events.duckdb", config={"threads": threads})
        self.version = duckdb.__version__

    def execute(self, statement: str) -> object:
        return self._connection.execute(statement).fetchall()

    def rows(self, result: Any) -> Rows:
        return [tuple(map(_plain, row)) for row in result]

    def another(self) -> Duckdb:
        other = object.__new__(Duckdb)
        other._connection, other.version = self._connection.cursor(), self.version
        return other


CHDB_PADDED = "leftPad(toString(%s), %d, '0')"
DUCKDB_PADDED = "lpad(%s::VARCHAR, %d, '0')"
DATABASES: dict[str, Callable[[str, int], Database]] = {"chdb": Chdb, "duckdb": Duckdb}


class Peer:
    """A peer's process, from here."""

    def __init__(self, kind: Kind, folder: Path, threads: int) -> None:
        self.name, self.orders, self._kind = kind.name, tuple(kind.orders), kind
        self.version, self.opened_in = "", 0.0
        self._folder, self._threads = folder, threads
        self._folder.mkdir(parents=True, exist_ok=True)
        self._open()

    def ask(self, statements: Statements) -> tuple[float, Rows]:
        """Seconds for statements one after another, and the rows of all of them."""
        return self._call("ask", statements)

    def ask_many(self, questions: list[Statements], clients: int, seconds: float) -> Load:
        """Asks the questions in turn, from several threads, for some time."""
        return self._call("ask_many", questions, clients, seconds)

    def peak_memory(self) -> int:
        """The most memory that the process has had since it opened its database, in bytes."""
        return self._call("peak_memory")

    def reopen(self) -> float:
        """Ends the process, starts another, and gives the seconds to open the database."""
        self.close()
        self._open()
        return self.opened_in

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join()

    def table_bytes(self) -> dict[str, int]:
        """What each table takes on disk."""
        sizes = (self.ask((self._kind.size.format(table=order),))[1] for order in self.orders)
        return {order: int(rows[0][0]) for order, rows in zip(self.orders, sizes, strict=True)}

    def _open(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self.name, str(self._folder), self._threads), daemon=True
        )
        self._process.start()
        theirs.close()
        self.version, self.opened_in = self._result()

    def _call(self, *request: Any) -> Any:
        self._pipe.send(request)
        return self._result()

    def _result(self) -> Any:
        try:
            result = self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"the process of {self.name} has ended") from None
        if isinstance(result, Exception):
            raise result
        return result


def _serve(pipe: Connection, name: str, path: str, threads: int) -> None:
    """Answers the requests of a `Peer` until it hangs up."""
    start = perf_counter()
    database = DATABASES[name](path, threads)
    pipe.send((database.version, perf_counter() - start))
    while True:
        try:
            request, *arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(_answer(database, request, arguments))
        except Exception as error:  # The other side raises it.
            pipe.send(RuntimeError(f"{name}: {error}"))


def _answer(database: Database, request: str, arguments: list[Any]) -> Any:
    if request == "peak_memory":
        return peak_memory("self")
    if request == "ask":
        start = perf_counter()
        results = [database.execute(statement) for statement in arguments[0]]
        seconds = perf_counter() - start
        return seconds, [row for result in results for row in database.rows(result)]
    questions, clients, seconds = arguments
    connections = [database.another() for _ in range(clients)]

    def ask(client: int, question: Statements) -> None:
        for statement in question:
            connections[client].execute(statement)

    return closed_loop(ask, questions, clients, seconds)


def load(kind: Kind, data: Dataset, folder: Path, threads: int, ids: str) -> Peer:
    """A peer that holds the events, loaded if `folder` does not hold them yet."""
    done = folder / "loaded"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
    peer = Peer(kind, folder / "database", threads)
    if not done.exists():
        statements = _chdb_tables if kind is CHDB else _duckdb_tables
        peer.ask(tuple(statements(data.parquet, ids)))
        peer.reopen()
        done.touch()
    return peer


def _chdb_tables(parquet: str, ids: str) -> list[str]:
    id_type = {"text": "String", "number": "UInt32"}[ids]
    statements = []
    for table, order in CHDB.orders.items():
        statements += [
            f"CREATE TABLE {table} (id UInt32, user_id {id_type}, session_id {id_type}, "
            f"event_type Enum8({_quoted(TYPES)}), time DateTime('UTC'), "
            f"page_url LowCardinality(String), plan Enum8({_quoted(name for name, _ in PLANS)}), "
            f"country LowCardinality(String), amount UInt32) ENGINE = MergeTree ORDER BY ({order})",
            f"INSERT INTO {table} SELECT id, {_ids(CHDB_PADDED, ids)}, "
            f"event_type, toDateTime(time, 'UTC'), page_url, plan, country, ifNull(amount, 0) "
            f"FROM file('{parquet}', Parquet)",
            f"OPTIMIZE TABLE {table} FINAL",
        ]
    return statements


def _duckdb_tables(parquet: str, ids: str) -> list[str]:
    statements = [
        f"CREATE TYPE {name} AS ENUM ({_quoted(values)})"
        for name, values in (
            ("kind", TYPES),
            ("plan", [name for name, _ in PLANS]),
            ("country", COUNTRIES),
        )
    ]
    statements.append(
        f"CREATE TYPE page AS ENUM (SELECT DISTINCT page_url::VARCHAR FROM '{parquet}')"
    )
    for table, order in DUCKDB.orders.items():
        statements.append(
            f"CREATE TABLE {table} AS SELECT id, {_ids(DUCKDB_PADDED, ids)}, "
            f"event_type::kind AS event_type, make_timestamp(time * 1000000) AS time, "
            f"page_url::page AS page_url, plan::plan AS plan, country::country AS country, amount "
            f"FROM '{parquet}' ORDER BY {order}"
        )
    return [*statements, "CHECKPOINT"]


def _ids(padded: str, ids: str) -> str:
    """The columns of the user's and the session's id, as texts that all engines write alike."""
    if ids == "number":
        return "user AS user_id, session AS session_id"
    user, session = padded % ("user", 7), padded % ("session", 9)
    return f"concat('u', {user}) AS user_id, concat('s', {session}) AS session_id"


def _quoted(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _plain(value: Any) -> Any:
    """Times as texts, like ClickHouse writes them, and sums as integers."""
    if isinstance(value, datetime.date):
        return str(value)
    return int(value) if isinstance(value, Decimal) else value
