"""What was measured, as Markdown for people and as JSON for machines."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import exp, log
from pathlib import Path
from statistics import median
from typing import Any

from data import Dataset
from measure import Load
from questions import Question
from rounds import GRISTMILL, Field, Measured, Times, Way, best


@dataclass
class Report:
    """Everything that a run has found."""

    data: Dataset
    settings: dict[str, Any]
    versions: dict[str, str]
    questions: Sequence[Question]
    left_out: Sequence[Question]
    trial: Measured
    hot: Measured
    cold: Measured
    new: Measured
    roof: dict[str, float]
    loads: dict[str, list[Load]]
    memory: dict[str, int]
    disk: dict[str, str]
    load_seconds: float | None
    floor: float
    steal: float
    load_average: float

    def markdown(self) -> str:
        """Tables with everything that a reader needs to judge them."""
        cold = "Cold: just reopened, asked before"
        new = "New: just reopened, Gristmill never asked before"
        parts = [self._head(), self._times("Hot", self.hot)]
        parts += [self._roofs(), self._times(cold, self.cold), self._times(new, self.new)]
        return "\n".join([*parts, self._together(), self._sizes()])

    def json(self) -> str:
        """Every single time."""
        times = {"trial": self.trial, "hot": self.hot, "cold": self.cold, "new": self.new}
        content = {
            "machine": machine(),
            "data": vars(self.data),
            "settings": self.settings,
            "versions": self.versions,
            "not_asked": [question.name for question in self.left_out],
            "seconds": {name: _plain(measured) for name, measured in times.items()},
            "geometric_means": {
                name: geometric_mean(measured) for name, measured in times.items() if measured
            },
            "together": {
                name: [{"answers": load.answers, "seconds": load.seconds} for load in loads]
                for name, loads in self.loads.items()
            },
            "peak_memory_bytes": self.memory,
            "roof_seconds": self.roof,
            "disk": self.disk,
            "load_seconds": self.load_seconds,
            "floor_seconds": self.floor,
            "steal": self.steal,
            "load_average_at_start": self.load_average,
        }
        return json.dumps(content, indent=1)

    def _head(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        names = ", ".join(question.name for question in self.left_out)
        left_out = f" Not asked, because this Gristmill does not know them: {names}."
        return "\n".join(
            [
                f"# {self.data.events:,} events, {self.data.users:,} users",
                "",
                f"{machine()}; {versions}; {json.dumps(self.settings)}.",
                f"Load average {self.load_average:.2f} at the start, {self.steal:.1%} of the time "
                "stolen by other machines meanwhile.",
                "All answers are equal." + (left_out if names else ""),
                f"Gristmill's times are those of an HTTP client, {_ms(self.floor)} ms of which an "
                "empty request takes; the peers' are taken in their own process.",
                "",
            ]
        )

    def _times(self, title: str, measured: Measured) -> str:
        if not measured:
            return ""
        peers = [name for name in self.versions if name != "gristmill"]
        lines = [
            f"## {title}, ms",
            "",
            "Median (least); in what order and wording. *Ratio* is the better peer's median to "
            "Gristmill's; *range* is the same in the single rounds.",
            "",
            "| question | Gristmill | " + " | ".join(peers) + " | ratio | range |",
            "|---|---:|" + "---:|" * (len(peers) + 2),
        ]
        for question in self.questions:
            times = measured[question.name]
            cells = [_cell(times[GRISTMILL])]
            for peer in peers:
                way = best(times, peer)[0]
                cells.append(f"{_cell(times[way])}, {way}")
            least, most = ratio_range(times)
            row = " | ".join([question.title, *cells])
            lines.append(f"| {row} | **{ratio(times):.1f}** | {least:.1f}–{most:.1f} |")
        least = min(ratio(times) for times in measured.values())
        mean = geometric_mean(measured)
        return "\n".join([*lines, "", f"Geometric mean **{mean:.1f}**, least {least:.1f}.", ""])

    def _roofs(self) -> str:
        """Beside loops over arrays with nothing around them."""
        if not self.roof:
            return ""
        lines = [
            "## Share of the roof",
            "",
            "What a plain loop over arrays of all events, sorted by user and time, takes in the same two "
            "threads (`crates/gristmill-store/examples/roof.rs`), in ms, and that divided by Gristmill's "
            "hot median: above 100 % where a digest is less to walk through than the events.",
            "",
            "| question | loop | share |",
            "|---|---:|---:|",
        ]
        for question in self.questions:
            if taken := self.roof.get(question.name):
                share = taken / self.hot[question.name][GRISTMILL].median
                lines.append(f"| {question.title} | {_ms(taken)} | {share:.0%} |")
        return "\n".join([*lines, ""])

    def _together(self) -> str:
        if not self.loads:
            return ""
        clients = self.settings["clients"]
        lines = [
            f"## {clients} clients at once",
            "",
            "All questions in turn, each peer in its best order and wording for each.",
            "",
            "| engine | questions/s | p50 ms | p99 ms |",
            "|---|---:|---:|---:|",
        ]
        for name, loads in self.loads.items():
            taken = sorted(taken for load in loads for taken in load.latencies)
            p99 = taken[min(len(taken) * 99 // 100, len(taken) - 1)]
            lines.append(f"| {name} | {rate(loads):.1f} | {_ms(median(taken))} | {_ms(p99)} |")
        others = [rate(loads) for name, loads in self.loads.items() if name != "gristmill"]
        compared = rate(self.loads["gristmill"]) / max(others)
        return "\n".join([*lines, "", f"**{compared:.1f}** times the better peer.", ""])

    def _sizes(self) -> str:
        lines = [
            "## Memory and disk",
            "",
            "The most resident memory since the process was opened for the hot rounds, and what "
            "is on disk. A peer's process holds Python too.",
            "",
            "| engine | peak memory | on disk |",
            "|---|---:|---|",
        ]
        for name, size in self.memory.items():
            lines.append(f"| {name} | {size / 2**20:,.0f} MiB | {self.disk[name]} |")
        if self.load_seconds:
            rate = self.data.events / self.load_seconds
            text = f"Gristmill took the events over HTTP at {rate:,.0f}/s, their making included."
            lines += ["", text]
        return "\n".join([*lines, ""])

    def save(self, folder: Path) -> list[Path]:
        """Writes both forms and gives their names."""
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{datetime.now(UTC):%Y-%m-%d-%H%M}-{self.data.events}"
        written = []
        for kind, text in (("md", self.markdown()), ("json", self.json())):
            written.append(folder / f"{name}.{kind}")
            written[-1].write_text(text)
        return written


def ratio(times: dict[Way, Times]) -> float:
    """How many times as long as Gristmill the better peer takes: the median of the rounds."""
    return median(_ratios(times))


def ratio_range(times: dict[Way, Times]) -> tuple[float, float]:
    """The least and the greatest ratio of a round."""
    ratios = _ratios(times)
    return min(ratios), max(ratios)


def geometric_mean(measured: Measured) -> float:
    """Of all questions' ratios."""
    return exp(sum(log(ratio(times)) for times in measured.values()) / len(measured))


def rate(loads: list[Load]) -> float:
    """Answers a second over several loads."""
    return sum(load.answers for load in loads) / sum(load.seconds for load in loads)


def machine() -> str:
    """The machine in a line."""
    models = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = models[0] if models else platform.machine()
    return f"{os.cpu_count()} × {model}, {memory:.0f} GiB, Linux {platform.release()}"


def steal_ticks() -> tuple[int, int]:
    """How much time other machines have taken from this one, and how much there was, in ticks."""
    ticks = [int(text) for text in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return ticks[7], sum(ticks)


def sizes(field: Field, events: int) -> dict[str, str]:
    """What each engine has on disk."""
    rows, digests = field.gristmill.part_bytes, field.gristmill.digest_bytes()
    told = {"gristmill": f"{_bytes(rows, events)}, {_bytes(digests, events)} digests"}
    for name, peer in field.peers.items():
        tables = peer.table_bytes()
        told[name] = ", ".join(f"{_bytes(size, events)} {table}" for table, size in tables.items())
    return told


def _ratios(times: dict[Way, Times]) -> list[float]:
    """One ratio of medians for each round."""
    pairs = zip(_better(times).rounds, times[GRISTMILL].rounds, strict=True)
    return [median(theirs) / median(ours) for theirs, ours in pairs]


def _better(times: dict[Way, Times]) -> Times:
    return min((times[way] for way in times if way != GRISTMILL), key=lambda taken: taken.median)


def _bytes(size: int, events: int) -> str:
    return f"{size / 2**20:,.0f} MiB ({size / events:.1f} B/event)"


def _cell(times: Times) -> str:
    return f"{_ms(times.median)} ({_ms(times.least)})"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.{2 if seconds < 0.01 else 1 if seconds < 0.1 else 0}f}"


def _plain(measured: Measured) -> dict[str, dict[str, list[list[float]]]]:
    return {
        name: {f"{way.engine} {way}": taken.rounds for way, taken in times.items()}
        for name, times in measured.items()
    }
