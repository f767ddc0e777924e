"""Measures Gristmill split into roles over Kafka, PostgreSQL and Redis, beside Kafka's own producer
tool and a bare COPY on the same machine.

Run it by `make bench-services`, which starts the servers; README.md says what it does.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from threading import Event, Thread
from time import perf_counter
from typing import Any
from urllib.parse import quote

from deployed import Deployed, Process, Servers, wait_for

RECORD_BYTES, BATCH = 350, 100
PARTITIONS = 4
CLICK_USERS, CLICK_PAGES = 200, 10


def main() -> int:
    """Measures and prints."""
    options = _options()
    servers = Servers(
        postgres=os.environ["GRISTMILL_TEST_POSTGRES"],
        kafka=os.environ["GRISTMILL_TEST_KAFKA"],
        redis=os.environ["GRISTMILL_TEST_REDIS"],
        java=["java", "-Xmx512m", "-cp", os.environ["GRISTMILL_TEST_KAFKA_JARS"] + "/*"],
    )
    options.dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="services-", dir=options.dir) as scratch:
        deployed = Deployed(options.binary.resolve(), servers, Path(scratch).resolve())
        for name in options.only or MEASUREMENTS:
            measure = MEASUREMENTS[name]
            print(f"\n== {name}: {(measure.__doc__ or '').splitlines()[0]}", flush=True)
            measure(deployed, options)
    return 0


def intake(deployed: Deployed, options: argparse.Namespace) -> None:
    """Events a second into the log, batches of 100, interleaved."""
    tool, best, synced = "Kafka's producer tool", "its best five seconds", "flush.messages=1"
    ours, own = "role ingest over Kafka", "embedded log, synced"
    rates: dict[str, list[float]] = {
        name: [] for name in (tool, best, f"{tool}, {synced}", f"{best}, {synced}", ours, own)
    }
    for _ in range(options.rounds):
        whole, most = producer_tool(deployed, options)
        rates[tool].append(whole)
        rates[best].append(most)
        rates[ours].append(ingest_over_kafka(deployed, options))
        whole, most = producer_tool(deployed, options, synced)
        rates[f"{tool}, {synced}"].append(whole)
        rates[f"{best}, {synced}"].append(most)
        rates[own].append(embedded(deployed, options))
    table(rates, "events/s", tool)


def producer_tool(
    deployed: Deployed, options: argparse.Namespace, *settings: str
) -> tuple[float, float]:
    """Records a second of Kafka's own tool, in all and in its best five seconds: it starts slowly."""
    settle_disk()
    topic = deployed.create_topic(1, *settings)
    records = options.records // 4 if settings else options.records
    flags = ["--topic", topic, "--num-records", str(records), "--record-size", str(RECORD_BYTES)]
    flags += ["--throughput", "-1", "--producer-props", f"batch.size={BATCH * RECORD_BYTES}"]
    flags += [f"bootstrap.servers={deployed.servers.kafka}", "acks=all"]
    output = deployed.tool("org.apache.kafka.tools.ProducerPerformance", *flags)
    *parts, whole = (float(rate) for rate in re.findall(r"([\d.]+) records/sec", output))
    return whole, max([*parts, whole])


def ingest_over_kafka(deployed: Deployed, options: argparse.Namespace) -> float:
    """Events a second that a process with this role only acknowledges."""
    settle_disk()
    with deployed.process("ingest", deployed.shared(1)) as ingest:
        ingest.wait_ready()
        return accepted(deployed, ingest, f"--seconds={options.seconds}")


def accepted(deployed: Deployed, ingest: Process, *flags: str) -> float:
    """Events a second that it acknowledges."""
    report = deployed.load("--uncounted", f"--url=http://{ingest.address}", *flags)
    return float(report["accepted_per_second"])


def embedded(deployed: Deployed, options: argparse.Namespace) -> float:
    """Events a second that one process acknowledges, which also settles them in its store."""
    settle_disk()
    report = deployed.load(f"--dir={deployed.scratch}", f"--seconds={options.seconds}")
    return float(report["accepted_per_second"])


def sink(deployed: Deployed, options: argparse.Namespace) -> None:
    """Events a second from Kafka into PostgreSQL, beside COPY of the same rows."""
    bare = "COPY into the same table and indexes"
    sinks = {
        "one process, one worker": (1, 1),
        "one process, two workers": (1, 2),
        "two processes": (2, 1),
        "four processes": (4, 1),
    }
    rates: dict[str, list[float]] = {name: [] for name in (bare, *sinks)}
    for _ in range(options.rounds):
        shared = deployed.shared(PARTITIONS)
        with deployed.process("ingest", shared) as ingest:
            ingest.wait_ready()
            flags = [f"--rate={options.rows // 5}", "--seconds=5", "--users=100000"]
            report = deployed.load("--uncounted", f"--url=http://{ingest.address}", *flags)
        events = int(report["driven"]["accepted"])
        for name, (processes, workers) in sinks.items():
            # Another database has settled nothing yet.
            database = deployed.create_database()
            environment = {**shared, "DATABASE_URL": database, "NUM_WORKERS": str(workers)}
            rates[name].append(settled(deployed, environment, processes, events))
            if name == next(iter(sinks)):
                rates[bare].append(copied(deployed, database))
            deployed.drop_database(database)
    table(rates, "events/s", bare)


def settled(deployed: Deployed, environment: dict[str, str], count: int, events: int) -> float:
    """Events a second that so many processors commit, from their first commit to the last."""
    settle_disk()
    with ExitStack() as stack:
        start = [deployed.process("process", environment) for _ in range(count)]
        processes = [stack.enter_context(process) for process in start]
        first = processes[0]
        wait_for(lambda: first.settled() > 0, "nothing is settled")
        before, began = first.settled(), perf_counter()
        wait_for(lambda: first.settled() >= events, "not all is settled")
        return (events - before) / (perf_counter() - began)


def copied(deployed: Deployed, database: str) -> float:
    """Rows a second of COPY from a file into an empty table like the one of events."""
    file = deployed.scratch / "rows"
    psql = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", database]
    deployed.sql(database, "CREATE TABLE bare (LIKE gristmill.events INCLUDING ALL)")
    rows = int(deployed.sql(database, "SELECT count(*) FROM gristmill.events"))
    out = f"\\copy gristmill.events TO '{file}' (FORMAT binary)"
    subprocess.run([*psql, "-c", out], check=True)
    settle_disk()
    began = perf_counter()
    subprocess.run([*psql, "-c", f"\\copy bare FROM '{file}' (FORMAT binary)"], check=True)
    took = perf_counter() - began
    file.unlink()
    return rows / took


def settle_disk() -> None:
    """Has the kernel write what was left unwritten, so that what comes next does not wait for that."""
    os.sync()


def latency(deployed: Deployed, options: argparse.Namespace) -> None:
    """How long until an event is acknowledged by Kafka and until it is in PostgreSQL, at half load."""
    most = float(all_roles(deployed, options)["queryable_per_second"])
    print(f"at most {most:,.0f} events/s can be queried, all roles in one process")
    for batch, rate in ((100, most / 2), (1, min(most / 2, 2_000))):
        flags = [f"--rate={rate:.0f}", f"--batch={batch}", "--connections=16"]
        reports = [all_roles(deployed, options, *flags) for _ in range(options.rounds)]
        print(f"{rate:,.0f} events/s in batches of {batch}:")
        print("  acknowledged        ", told([it["driven"]["latencies"] for it in reports]))
        print("  sent until queryable", told([it["freshness"]["latencies"] for it in reports]))


def all_roles(deployed: Deployed, options: argparse.Namespace, *flags: str) -> dict[str, Any]:
    """What a load reports of one process with all roles, which has to do with nothing before it."""
    usual = {"GRISTMILL__INGEST__PACED_BACKLOG_RECORDS", "GRISTMILL__INGEST__MAX_BACKLOG_RECORDS"}
    shared = {name: text for name, text in deployed.shared(3).items() if name not in usual}
    with deployed.process("ingest,process,query", shared) as process:
        process.wait_ready()
        settle_disk()
        url, seconds = f"--url=http://{process.address}", f"--seconds={options.seconds}"
        report = deployed.load(url, seconds, *flags)
    deployed.drop_database(shared["DATABASE_URL"])
    return report


def told(rounds: Sequence[dict[str, float]]) -> str:
    """Medians of latencies as the load tells them."""
    names = ("p50_ms", "p95_ms", "p99_ms", "max_ms")
    medians = (statistics.median(latencies[name] for latencies in rounds) for name in names)
    return ", ".join(f"{name} {median:,.2f}" for name, median in zip(names, medians, strict=True))


def clicks(deployed: Deployed, options: argparse.Namespace) -> None:
    """How long a count of page clicks takes through gateway, query role, Redis and PostgreSQL."""
    pairs = [(f"user{user}", f"/{page}") for user in range(CLICK_USERS) for page in range(CLICK_PAGES)]
    shared = deployed.shared(1)
    with ExitStack() as stack:
        ingest, process, query = (
            stack.enter_context(deployed.process(role, shared))
            for role in ("ingest", "process", "query")
        )
        gateway = stack.enter_context(deployed.process("gateway", {
            "GRISTMILL__GATEWAY__INGEST": f"http://{ingest.grpc_address}",
            "GRISTMILL__GATEWAY__QUERY": f"http://{query.grpc_address}",
        }))
        for each in (ingest, process, query, gateway):
            each.wait_ready()
        send_clicks(ingest, pairs)
        wait_for(lambda: process.settled() >= len(pairs), "the clicks are not settled")
        settle_disk()
        connection = HTTPConnection(gateway.address)
        print("not in Redis:", quantiles([count(connection, *pair) for pair in pairs]))
        again = [count(connection, *pair) for _ in range(5) for pair in pairs]
        print("in Redis:    ", quantiles(again))
        hit_rate(query, ingest, connection, options.seconds)


def hit_rate(query: Process, ingest: Process, connection: HTTPConnection, seconds: int) -> None:
    """Asks for few pages again and again while ten clicks a second come in."""
    pairs = [(f"user{user}", f"/{page}") for user in range(20) for page in range(5)]
    before, is_over = hits(query), Event()

    sent: list[int] = []

    def click() -> None:
        while not is_over.wait(0.1):
            send_clicks(ingest, [pairs[len(sent) % len(pairs)]])
            sent.append(1)

    clicking = Thread(target=click)
    clicking.start()
    deadline, asked = perf_counter() + seconds, 0
    while perf_counter() < deadline:
        count(connection, *pairs[asked % len(pairs)])
        asked += 1
    is_over.set()
    clicking.join()
    if len(sent) < seconds:
        raise RuntimeError(f"only {len(sent)} clicks were taken")
    hit, missed = (after - earlier for after, earlier in zip(hits(query), before, strict=True))
    rate = hit / (hit + missed)
    print(f"{rate:.2%} of {asked:,} questions about 100 counts were answered from Redis, while ten "
          f"clicks a second changed them")


def hits(query: Process) -> tuple[float, float]:
    """How often the cache had an answer that held, and how often not."""
    return query.metric("gristmill_cache_hits_total"), query.metric("gristmill_cache_misses_total")


def count(connection: HTTPConnection, user: str, page: str) -> float:
    """Seconds for one count of page clicks."""
    target = f"/analytics/events?user_id={quote(user)}&page_url={quote(page)}"
    began = perf_counter()
    connection.request("GET", target)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {body[:200]!r}")
    return perf_counter() - began


def send_clicks(ingest: Process, pairs: Sequence[tuple[str, str]]) -> None:
    """Posts a click for each pair of a user and a page, over one connection."""
    connection = HTTPConnection(ingest.address)
    for user, page in pairs:
        body = f'{{"event_type":"click","user_id":"{user}","page_url":"{page}"}}'
        connection.request("POST", "/v1/events", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {text[:200]!r}")
    connection.close()


def quantiles(seconds: Sequence[float]) -> str:
    """The latencies that people ask for."""
    ordered = sorted(seconds)
    at = [ordered[min(len(ordered) - 1, int(len(ordered) * q))] * 1e3 for q in (0.5, 0.95, 0.99)]
    return "p50 {:.2f} ms, p95 {:.2f} ms, p99 {:.2f} ms of {:,}".format(*at, len(ordered))


def table(rates: dict[str, list[float]], unit: str, against: str) -> None:
    """Medians of the rounds, and their ratio to one of them."""
    base = statistics.median(rates[against])
    for name, values in rates.items():
        median, every = statistics.median(values), ", ".join(f"{value:,.0f}" for value in values)
        print(f"{name:<38} {median:>9,.0f} {unit}  {median / base:5.2f}x  ({every})", flush=True)


MEASUREMENTS: dict[str, Callable[[Deployed, argparse.Namespace], None]] = {
    "intake": intake,
    "sink": sink,
    "latency": latency,
    "clicks": clicks,
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--dir", type=Path, default=Path("data"), help="where data is written")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=15, help="of each load")
    parser.add_argument("--records", type=int, default=4_000_000, help="of Kafka's tool")
    parser.add_argument("--rows", type=int, default=300_000, help="of the sink")
    parser.add_argument("--only", action="append", choices=sorted(MEASUREMENTS))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
