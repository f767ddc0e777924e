"""Gristmill: its real server in a process of its own, fed and asked over HTTP."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import pyarrow.parquet as pq

from data import Dataset, batches
from measure import Load, closed_loop, peak_memory
from questions import Question, Rows

EVENTS_PER_REQUEST = 5_000
SENDERS = 4
PATIENCE_SECONDS = 900.0


class HttpError(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"status {status}: {body[:500].decode(errors='replace')}")
        self.status = status


class Connection:
    """One connection that is kept alive."""

    def __init__(self, address: str) -> None:
        self._http = http.client.HTTPConnection(address, timeout=PATIENCE_SECONDS)

    def send(self, target: str, body: str | bytes | None = None, kind: str = "json") -> bytes:
        """A GET, or a POST if there is a body; gives the body of the answer."""
        headers = {} if body is None else {"Content-Type": f"application/{kind}"}
        self._http.request("GET" if body is None else "POST", target, body, headers)
        response = self._http.getresponse()
        answer = response.read()
        if response.status != 200:
            raise HttpError(response.status, answer)
        return answer

    def ask(self, question: Question) -> bytes:
        """The answer to a question, not decoded."""
        return self.send(question.target, question.body)


class Gristmill:
    """A server over one data directory."""

    name = "gristmill"
    address: str
    _connection: Connection

    def __init__(self, binary: Path, data_dir: Path, threads: int) -> None:
        self._binary, self._data_dir, self._threads = binary, data_dir.resolve(), threads
        version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True)
        self.version = version.stdout.split()[-1]
        self.part_bytes = 0
        self._open()

    def ask(self, question: Question) -> tuple[float, Rows]:
        """Seconds until the whole answer is here, and its rows."""
        start = perf_counter()
        answer = self._connection.ask(question)
        return perf_counter() - start, question.rows(json.loads(answer))

    def ask_json(self, target: str, body: object = None) -> Any:
        """Any answer, decoded."""
        text = None if body is None else json.dumps(body)
        return json.loads(self._connection.send(target, text))

    def knows(self, question: Question) -> bool:
        """Whether this version answers the question."""
        try:
            self._connection.ask(question)
        except HttpError as error:
            if question.is_optional and error.status in (400, 404, 405):
                return False
            raise
        return True

    def ask_many(self, questions: Sequence[Question], clients: int, seconds: float) -> Load:
        """Asks the questions in turn, over several connections, for some time."""
        connections = [Connection(self.address) for _ in range(clients)]
        return closed_loop(
            lambda client, question: connections[client].ask(question), questions, clients, seconds
        )

    def floor(self) -> float:
        """Seconds for a request that asks nothing of the engine: the median of many."""
        times = []
        for _ in range(201):
            start = perf_counter()
            self._connection.send("/livez")
            times.append(perf_counter() - start)
        return sorted(times)[len(times) // 2]

    def load(self, data: Dataset) -> float:
        """Posts all events, has the store compacted, and gives the seconds of the posting."""
        groups = range(pq.ParquetFile(data.parquet).num_row_groups)
        work = [(self.address, data.parquet, group) for group in groups]
        start = perf_counter()
        with multiprocessing.get_context("spawn").Pool(SENDERS) as pool:
            sent = sum(pool.imap_unordered(_post, work))
        self.settle()
        seconds = perf_counter() - start
        if sent != data.events:
            raise RuntimeError(f"{sent} of {data.events} events were accepted")
        self.compact()
        return seconds

    def run_import(self, flags: Sequence[str], file: Path) -> None:
        """Runs the `import` command."""
        command: list[str | Path] = [
            self._binary,
            "import",
            f"--url=http://{self.address}",
            *flags,
            file,
        ]
        subprocess.run(command, check=True, capture_output=True)
        self.settle()

    def settle(self) -> None:
        """Waits until everything acknowledged can be queried."""
        deadline = perf_counter() + PATIENCE_SECONDS
        while perf_counter() < deadline:
            try:
                self._connection.send("/ready")
                return
            except (HttpError, OSError, http.client.HTTPException):
                if self._process.poll() is not None:
                    raise RuntimeError(f"the server ended: see {self._log}") from None
                self._connection = Connection(self.address)
                time.sleep(0.02)
        raise TimeoutError(f"the server is not ready after {PATIENCE_SECONDS:.0f} s")

    def compact(self) -> None:
        """Has everything written to files and merged, and waits for it."""
        url = f"--url=http://{self.address}"
        command: list[str | Path] = [self._binary, "compact", url, "--timeout=3600"]
        subprocess.run(command, check=True, capture_output=True)
        self.part_bytes = json.loads(self._connection.send("/v1/store/compact", ""))["part_bytes"]

    def digest_bytes(self) -> int:
        """What digests take on disk."""
        files = (self._data_dir / "store" / "digests").glob("*.digest")
        return sum(file.stat().st_size for file in files)

    def peak_memory(self) -> int:
        """The most memory that the server has had since it was started, in bytes."""
        return peak_memory(self._process.pid)

    def reopen(self) -> float:
        """Stops the server, starts it again, and gives the seconds until it was ready."""
        self.close()
        return self._open()

    def ask_new(self, question: Question) -> float:
        """Seconds for a question that is asked of a server that was just started and has no digests,
        as if it had never been asked before."""
        digests = self._data_dir / "store" / "digests"
        aside = digests.with_name("digests.aside")
        self.close()
        digests.rename(aside)
        self._open()
        seconds, _ = self.ask(question)
        self.close()
        shutil.rmtree(digests)
        aside.rename(digests)
        self._open()
        return seconds

    def close(self) -> None:
        """Stops the server in good order."""
        self._process.terminate()
        self._process.wait(60)

    def _open(self) -> float:
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self._log = self._data_dir.with_suffix(".log")
        settings = {
            # Every question is asked over HTTP, and the port may be another server's.
            "GRISTMILL__SERVER__GRPC_LISTEN": "",
            "GRISTMILL__QUERY__THREADS": str(self._threads),
            # The connection lies idle while the others are busy.
            "GRISTMILL__SERVER__KEEP_ALIVE_TIMEOUT": "1h",
            "GRISTMILL__TELEMETRY__FILTER": "warn",
        }
        start = perf_counter()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary, "serve", "--data-dir", self._data_dir, "--listen", "127.0.0.1:0"],
                cwd=self._data_dir,  # Where no `.env` lies, which it would read.
                env={"PATH": os.environ["PATH"], **settings},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        greeting = self._process.stdout.readline().split()
        if greeting[:2] != ["listening", "on"]:
            self._process.kill()
            raise RuntimeError(f"the server does not start: see {self._log}")
        self.address = urlsplit(greeting[2]).netloc
        self._connection = Connection(self.address)
        self.settle()
        return perf_counter() - start


def _post(work: tuple[str, str, int]) -> int:
    """Posts one row group and gives how many events were accepted."""
    address, parquet, group = work
    connection, accepted = Connection(address), 0
    for count, body in batches(parquet, group, EVENTS_PER_REQUEST):
        accepted += _post_batch(connection, body, count)
    return accepted


def _post_batch(connection: Connection, body: bytes, count: int) -> int:
    """Posts one batch, again and again while the server is too busy."""
    while True:
        try:
            answer = json.loads(connection.send("/v1/events/batch", body, "x-ndjson"))
        except HttpError as error:
            if error.status not in (429, 503, 504):
                raise
            time.sleep(0.2)
            continue
        if answer["accepted"] != count:
            raise RuntimeError(f"{answer['accepted']} of {count} events were accepted")
        return count
