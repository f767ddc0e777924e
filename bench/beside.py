"""Questions and ingestion, each alone and both together, on the same machine, and a live funnel.

Run it by `make bench-beside`, which builds the binary; README.md says what it does.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any

from deployed import Process
from live import shown_after
from measure import Load, closed_loop

QUESTIONS = (
    "/v1/analytics/summary",
    "/v1/analytics/timeseries?metric=unique_users&granularity=hour",
    "/v1/analytics/top?property=event_type",
    "/v1/analytics/timeseries?granularity=hour&group_by=event_type",
)
FILLING_SECONDS = 10
PEAK_SECONDS = 60
LIVE_USERS = 40
LIVE_PAUSE_SECONDS = 0.5


def main() -> None:
    """Measures and prints the medians of all rounds."""
    options = _options()
    rounds: list[dict[str, float]] = []
    for number in range(options.rounds):
        peak = {} if options.rate else {"peak, events/s": _peak(options)}
        rate = options.rate or int(peak["peak, events/s"] / 2)
        with tempfile.TemporaryDirectory(prefix="gristmill-bench-") as folder:
            measured = _round(options, rate, Path(folder))
        rounds.append({**peak, "offered, events/s": float(rate), **measured})
        print(f"round {number + 1}: {rounds[-1]}", flush=True)
    print(
        f"batches of 100 events, {options.clients} clients that ask {len(QUESTIONS)} questions in "
        f"turn, medians of {options.rounds} rounds of {options.seconds} s each:"
    )
    for name in rounds[0]:
        values = sorted(one[name] for one in rounds)
        print(f"  {name:44} {median(values):10,.1f}  ({values[0]:,.1f}-{values[-1]:,.1f})")


def _peak(options: argparse.Namespace) -> float:
    """How many events a second can be asked about, if as many are sent as are taken."""
    with (
        tempfile.TemporaryDirectory(prefix="gristmill-bench-") as folder,
        _server(options, Path(folder)) as server,
    ):
        report = _ingest(options, server, PEAK_SECONDS, None)
        return float(report["queryable_per_second"])


def _round(options: argparse.Namespace, rate: int, folder: Path) -> dict[str, float]:
    with _server(options, folder) as server:
        _ingest(options, server, FILLING_SECONDS, rate)
        last = _until_now(server)
        asked = _ask(options, server, last)
        sent = _ingest(options, server, options.seconds, rate)
        with ThreadPoolExecutor(1) as asking:
            both = asking.submit(_ask, options, server, last)
            sent_beside = _ingest(options, server, options.seconds, rate)
            asked_beside = both.result()
        asked_after = _ask(options, server, last)
        shown = shown_after(server.address, "fresh", LIVE_USERS, LIVE_PAUSE_SECONDS)
        compact = [options.binary, "compact", f"--url=http://{server.address}"]
        subprocess.run(compact, check=True, capture_output=True)
        shown_merged = shown_after(server.address, "merged", LIVE_USERS, LIVE_PAUSE_SECONDS)
    return {
        **_of_sending("alone", sent),
        **_of_sending("beside questions", sent_beside),
        **_of_asking("alone", asked),
        **_of_asking("beside ingestion", asked_beside),
        **_of_asking("alone again", asked_after),
        **_of_showing("live funnel", shown),
        **_of_showing("live funnel after merging", shown_merged),
    }


@contextmanager
def _server(options: argparse.Namespace, folder: Path) -> Iterator[Process]:
    settings = {"GRISTMILL__TELEMETRY__FILTER": "warn"}
    server = Process(options.binary, "ingest,process,query", folder, settings)
    try:
        server.wait_ready()
        yield server
    finally:
        server.end()


def _of_sending(how: str, report: dict[str, Any]) -> dict[str, float]:
    latencies = report["driven"]["latencies"]
    return {
        f"{how}: queryable events/s": report["queryable_per_second"],
        f"{how}: acknowledgement p50, ms": latencies["p50_ms"],
        f"{how}: acknowledgement p99, ms": latencies["p99_ms"],
    }


def _of_asking(how: str, load: Load) -> dict[str, float]:
    return {
        f"{how}: answers/s": load.rate,
        f"{how}: answer p50, ms": _percentile(load.latencies, 0.5),
        f"{how}: answer p99, ms": _percentile(load.latencies, 0.99),
    }


def _of_showing(what: str, seconds: list[float]) -> dict[str, float]:
    return {
        f"{what}: acknowledged to shown p50, ms": _percentile(seconds, 0.5),
        f"{what}: acknowledged to shown p95, ms": _percentile(seconds, 0.95),
    }


def _percentile(ascending: list[float], share: float) -> float:
    return ascending[min(int(len(ascending) * share), len(ascending) - 1)] * 1e3


def _ingest(
    options: argparse.Namespace, server: Process, seconds: int, rate: int | None
) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile(prefix="gristmill-bench-") as report:
        flags = [f"--url=http://{server.address}", f"--seconds={seconds}", f"--json={report.name}"]
        flags += [] if rate is None else [f"--rate={rate}"]
        command = [options.binary, "bench", "ingest", *flags]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
        result: dict[str, Any] = json.loads(Path(report.name).read_text())
    return result


def _until_now(server: Process) -> str:
    """The time of the last event, so that later ones change no answer."""
    summary = json.loads(_get(HTTPConnection(server.address), "/v1/analytics/summary"))
    return str(summary["last_event"])


def _ask(options: argparse.Namespace, server: Process, end: str) -> Load:
    connections = [HTTPConnection(server.address) for _ in range(options.clients)]
    questions = [f"{one}{'&' if '?' in one else '?'}end={end}" for one in QUESTIONS]
    return closed_loop(
        lambda client, question: _get(connections[client], question),
        questions,
        options.clients,
        options.seconds,
    )


def _get(connection: HTTPConnection, target: str) -> bytes:
    connection.request("GET", target)
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise RuntimeError(f"{target}: status {response.status}: {body[:500]!r}")
    return body


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, required=True, help="the server")
    parser.add_argument("--rate", type=int, help="events a second; else half the peak")
    parser.add_argument("--clients", type=int, default=8, help="clients that ask")
    parser.add_argument("--seconds", type=int, default=20, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
