"""Compares Gristmill's questions with ClickHouse's engine and DuckDB on this machine.

Run it by `make bench-queries`, which makes its environment; README.md says what it does.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import real
from data import Dataset, dataset
from gristmill import Gristmill
from measure import Load
from peers import CHDB, DUCKDB, load
from questions import Question, questions
from report import Report, sizes, steal_ticks
from rounds import Field, Measured, cold, hot, say, together, trial

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "gristmill" / "bench"
CHECKED_EVENTS = 200_000
TRIAL_ASKS = 3
SHOWN, SHOWN_CHARS = 50, 600


def main() -> int:
    """Measures or checks; 1 if an answer differs."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that the server is ended, too.
    # Servers, peers and clients share these cores; processes started from here inherit them.
    cores = sorted(os.sched_getaffinity(0))[: options.threads]
    os.sched_setaffinity(0, cores)
    with tempfile.TemporaryDirectory(prefix="gristmill-bench-") as scratch:
        return _run(options, Path(scratch))


def _run(options: argparse.Namespace, scratch: Path) -> int:
    data = dataset(options.cache / "data", options.events, options.users)
    store = options.data_dir or scratch / "gristmill" / "data"
    gristmill = Gristmill(options.binary, store, options.threads)
    field = Field(gristmill, [])
    try:
        seconds = _loaded(gristmill, data)
        for kind in (CHDB, DUCKDB):
            say(f"load {kind.name}")
            folder = options.cache / "data" / f"{Path(data.parquet).stem}-{options.ids}-{kind.name}"
            peer = load(kind, data, folder, options.threads, options.ids)
            field.peers[kind.name] = peer
        asked, left_out = _asked(gristmill, questions(data, options.ids), options.questions)
        say("compare the answers")
        trials, differences = trial(field, asked, 1 if options.check else TRIAL_ASKS)
        if options.check:
            differences += real.differences(options.binary, scratch, options.threads)
        if differences:
            print(f"{len(differences)} differences, of which the first are:")
            print(*(text[:SHOWN_CHARS] for text in differences[:SHOWN]), sep="\n")
            return 1
        if options.check:
            print(f"{len(asked)} questions about {data.events:,} events: no difference")
            return 0
        report = _measured(options, field, data, asked, trials)
        report.left_out, report.load_seconds = left_out, seconds
        print(report.markdown())
        if options.save:
            say(" ".join(f"wrote {path}" for path in report.save(HERE / "results")))
        return 0
    finally:
        for name in field.names():
            field.engine(name).close()


def roof(program: Path, data: Dataset) -> dict[str, float]:
    """Seconds that a plain loop over arrays takes for each question, by name."""
    say("plain loops over arrays")
    ran = subprocess.run([program, data.parquet], capture_output=True, text=True, check=True)
    lines = (line.split() for line in ran.stdout.splitlines())
    return {name: float(taken) / 1e3 for name, taken in lines}


def _measured(
    options: argparse.Namespace,
    field: Field,
    data: Dataset,
    asked: Sequence[Question],
    trials: Measured,
) -> Report:
    load_average, before = os.getloadavg()[0], steal_ticks()
    colds, news = cold(field, asked, trials, options.cold_rounds)
    for name in field.names():
        field.reopen(name)
    hots = hot(field, asked, trials, options.rounds, options.asks)
    roofs = roof(options.roof, data) if options.roof else {}
    loads: dict[str, list[Load]] = {}
    if options.seconds:
        loads = together(field, asked, hots, options.clients, options.seconds)
    after = steal_ticks()
    names = ("threads", "ids", "rounds", "asks", "cold_rounds", "clients", "seconds")
    return Report(
        data=data,
        settings={name: getattr(options, name) for name in names},
        versions={name: field.engine(name).version for name in field.names()},
        questions=asked,
        left_out=[],
        trial=trials,
        hot=hots,
        cold=colds,
        new=news,
        roof=roofs,
        loads=loads,
        memory={name: field.engine(name).peak_memory() for name in field.names()},
        disk=sizes(field, data.events),
        load_seconds=None,
        floor=field.gristmill.floor(),
        steal=(after[0] - before[0]) / max(after[1] - before[1], 1),
        load_average=load_average,
    )


def _loaded(gristmill: Gristmill, data: Dataset) -> float | None:
    """Fills the server, unless its data directory was filled before; the seconds it took."""
    there = gristmill.ask_json("/v1/analytics/summary")["total_events"]
    if there not in (0, data.events):
        raise SystemExit(f"the data directory holds {there} events instead of {data.events}")
    seconds = None
    if there == 0:
        say("load gristmill")
        seconds = gristmill.load(data)
    gristmill.compact()
    return seconds


def _asked(
    gristmill: Gristmill, every: Sequence[Question], names: Sequence[str]
) -> tuple[list[Question], list[Question]]:
    """The wanted questions that this version of Gristmill knows, and those that it does not."""
    unknown = set(names) - {question.name for question in every}
    if unknown:
        raise SystemExit(f"no such question: {', '.join(sorted(unknown))}")
    wanted = [question for question in every if not names or question.name in names]
    known = [question for question in wanted if gristmill.knows(question)]
    return known, [question for question in wanted if question not in known]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--binary", type=Path, required=True, help="the gristmill to measure")
    add("--events", type=int, help=f"how many (10000000; {CHECKED_EVENTS} with --check)")
    add("--users", type=int, help="how many (one for 50 events)")
    add("--threads", type=int, default=2, help="cores and threads for each engine (%(default)s)")
    add("--rounds", type=int, default=3, help="hot rounds (%(default)s)")
    add("--asks", type=int, default=3, help="in a turn; a round has two (%(default)s)")
    add("--roof", type=Path, help="the program that measures plain loops over arrays")
    add("--cold-rounds", type=int, default=3, help="0 leaves them out (%(default)s)")
    add("--clients", type=int, default=8, help="clients at once (%(default)s)")
    add("--seconds", type=float, default=20, help="of them, twice; 0 leaves them out (%(default)s)")
    add("--questions", nargs="+", default=[], metavar="NAME", help="only these")
    add("--ids", choices=("text", "number"), default="text", help="how peers keep user and session")
    add("--check", action="store_true", help="only compare answers, with real data as well")
    add("--save", action="store_true", help="write the report to bench/results")
    add("--data-dir", type=Path, help="keep Gristmill's data here, and use them if they are there")
    add("--cache", type=Path, default=CACHE, help="for generated data and peers (%(default)s)")
    options = parser.parse_args()
    options.events = options.events or (CHECKED_EVENTS if options.check else 10_000_000)
    options.binary = options.binary.resolve()
    if not options.binary.is_file():
        parser.error(f"there is no {options.binary}")
    return options


if __name__ == "__main__":
    sys.exit(main())
