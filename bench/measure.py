"""How time and memory are measured, for every engine in the same way."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TypeVar

Question = TypeVar("Question")


@dataclass(frozen=True)
class Load:
    """What several clients have got in some time."""

    answers: int
    seconds: float
    latencies: list[float]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds


def closed_loop(
    ask: Callable[[int, Question], object],
    questions: Sequence[Question],
    clients: int,
    seconds: float,
) -> Load:
    """Has `clients` threads ask the questions in turn, each the next one when it has its answer.

    Every question comes equally often, give or take one; the time runs until the last answer.
    """
    turns, lock = itertools.cycle(questions), threading.Lock()
    latencies: list[float] = []
    errors: list[Exception] = []
    start = perf_counter()

    def client(number: int) -> None:
        while perf_counter() - start < seconds and not errors:
            with lock:
                question = next(turns)
            asked = perf_counter()
            try:
                ask(number, question)
            except Exception as error:  # The caller raises it.
                errors.append(error)
            latencies.append(perf_counter() - asked)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return Load(len(latencies), perf_counter() - start, sorted(latencies))


def peak_memory(process: int | str) -> int:
    """The most resident memory that a process has ever had, in bytes, as the kernel counts it."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"the kernel tells no peak memory of process {process}")
