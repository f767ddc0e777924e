"""Processes of Gristmill, each with some of its roles, over real servers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Servers:
    """Where the real servers are."""

    postgres: str
    kafka: str
    redis: str
    java: Sequence[str]
    """The command line that runs a class of Kafka's own tools."""


class Deployed:
    """Starts processes, and makes what they share."""

    def __init__(self, binary: Path, servers: Servers, scratch: Path) -> None:
        self.binary, self.servers, self.scratch = binary, servers, scratch
        self._names = 0

    def name(self) -> str:
        """A name that nothing has had."""
        self._names += 1
        return f"bench_{os.getpid()}_{self._names}"

    def create_database(self) -> str:
        """The address of an empty database."""
        name = self.name()
        self.sql(self.servers.postgres, f"CREATE DATABASE {name}")
        return self.servers.postgres.rsplit("/", 1)[0] + "/" + name

    def drop_database(self, database: str) -> None:
        """Removes it, so that the server need not tidy it up beside what is measured next."""
        self.sql(self.servers.postgres, f"DROP DATABASE {database.rsplit('/', 1)[1]} WITH (FORCE)")

    def sql(self, database: str, text: str) -> str:
        """What a statement gives, as text."""
        command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", text, database]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def create_topic(self, partitions: int, *settings: str) -> str:
        """The name of an empty topic."""
        name = self.name()
        flags = ["--create", "--topic", name, "--partitions", str(partitions)]
        for setting in settings:
            flags += ["--config", setting]
        flags += ["--bootstrap-server", self.servers.kafka]
        self.tool("org.apache.kafka.tools.TopicCommand", *flags)
        return name

    def tool(self, main_class: str, *arguments: str) -> str:
        """What one of Kafka's own tools prints."""
        command = [*self.servers.java, main_class, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def shared(self, partitions: int) -> dict[str, str]:
        """What the roles of a new deployment have in common: a database, a topic, a cache."""
        topic = self.create_topic(partitions)
        return {
            "DATABASE_URL": self.create_database(),
            "KAFKA_BROKERS": self.servers.kafka,
            "KAFKA_TOPIC": topic,
            "KAFKA_GROUP_ID": topic,
            "REDIS_ADDR": urlsplit(self.servers.redis).netloc,
            "GRISTMILL__TELEMETRY__FILTER": "warn",
            # What is measured is the log, and nobody settles it meanwhile.
            "GRISTMILL__INGEST__PACED_BACKLOG_RECORDS": "100000000",
            "GRISTMILL__INGEST__MAX_BACKLOG_RECORDS": "100000000",
        }

    @contextmanager
    def process(self, roles: str, environment: dict[str, str]) -> Iterator[Process]:
        """A process with these roles, until the end of the block."""
        folder = self.scratch / self.name()
        folder.mkdir()
        process = Process(self.binary, roles, folder, environment)
        try:
            yield process
        finally:
            process.end()

    def load(self, *flags: str) -> dict[str, Any]:
        """What `gristmill bench ingest` reports."""
        report = self.scratch / "report.json"
        command = [self.binary, "bench", "ingest", f"--json={report}", *flags]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
        return json.loads(report.read_text())


class Process:
    """One process."""

    def __init__(
        self, binary: Path, roles: str, folder: Path, environment: dict[str, str]
    ) -> None:
        self.address, self.grpc_address = free_address(), free_address()
        command = [binary, "serve", "--role", roles, "--data-dir", folder / "data"]
        command += ["--listen", self.address, "--grpc-listen", self.grpc_address]
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={"PATH": os.environ["PATH"], **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_ready(self) -> None:
        """Waits until it says that it is ready."""
        wait_for(self.is_ready, f"not ready: {self._log.read_text()}")

    def is_ready(self) -> bool:
        """Whether it says that it is ready."""
        if self._process.poll() is not None:
            raise RuntimeError(f"it has ended: {self._log.read_text()}")
        return get(self.address, "/ready")[0] == 200

    def settled(self) -> int:
        """How many events of the log are in the store."""
        status, body = get(self.address, "/stats")
        if status != 200:
            return 0
        store = json.loads(body)["store"]
        return int(store["stored"]) + int(store["duplicate"])

    def metric(self, name: str) -> float:
        """A metric that has no labels."""
        lines = get(self.address, "/metrics")[1].decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.split()[0] == name)

    def end(self) -> None:
        """Ends it in good order."""
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise


def free_address() -> str:
    """An address of this machine on which nobody listens now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return "127.0.0.1:{}".format(listener.getsockname()[1])


def get(address: str, target: str) -> tuple[int, bytes]:
    """The status and the body of an answer; 0 if there is none."""
    connection = HTTPConnection(address, timeout=60)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def wait_for(is_done: Callable[[], bool], otherwise: str) -> None:
    """Waits until something is so."""
    deadline = perf_counter() + PATIENCE_SECONDS
    while not is_done():
        if perf_counter() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(0.02)
