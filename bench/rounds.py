"""The rounds: everybody is asked the same, in turns, one at a time.

First a trial compares the answers of all ways to ask and finds the best ones of each peer. Only
if all answers are equal does anything else count.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from gristmill import Gristmill
from measure import Load
from peers import Peer, Statements
from questions import Question, Rows

NEAR = 1.3
"""Ways of a peer that are this near to its best one in the trial are measured as well."""


@dataclass(frozen=True)
class Way:
    """A way to ask somebody: a peer's sort order and wording, or simply Gristmill."""

    engine: str
    order: str = ""
    wording: int = 0

    def __str__(self) -> str:
        return f"{self.order} ({self.wording + 1})" if self.order else self.engine


GRISTMILL = Way("gristmill")


@dataclass
class Times:
    """Seconds, in lists of one round each."""

    rounds: list[list[float]] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Of all rounds."""
        return median(self._all())

    @property
    def least(self) -> float:
        """Of all rounds."""
        return min(self._all())

    def _all(self) -> list[float]:
        return [seconds for times in self.rounds for seconds in times]


Measured = dict[str, dict[Way, Times]]
"""By question and way."""


class Field:
    """Everybody that takes part."""

    def __init__(self, gristmill: Gristmill, peers: Iterable[Peer]) -> None:
        self.gristmill = gristmill
        self.peers = {peer.name: peer for peer in peers}

    def ways(self, question: Question) -> list[Way]:
        """Every way to ask the peers."""
        return [
            Way(peer.name, order, wording)
            for peer in self.peers.values()
            for wording in range(len(question.ways(peer.name)))
            for order in peer.orders
        ]

    def ask(self, question: Question, way: Way) -> tuple[float, Rows]:
        """Seconds and rows of an answer."""
        if way == GRISTMILL:
            return self.gristmill.ask(question)
        return self.peers[way.engine].ask(statements(question, way))

    def reopen(self, engine: str) -> float:
        """Ends an engine's process, starts it again, and gives the seconds it took to open."""
        return self.engine(engine).reopen()

    def engine(self, name: str) -> Gristmill | Peer:
        """One of them by name."""
        return self.gristmill if name == "gristmill" else self.peers[name]

    def names(self) -> list[str]:
        """The engines, Gristmill first."""
        return ["gristmill", *self.peers]


def statements(question: Question, way: Way) -> Statements:
    """A question as SQL."""
    wording = question.ways(way.engine)[way.wording]
    return tuple(statement.format(table=way.order) for statement in wording)


def trial(field: Field, questions: Sequence[Question], asks: int) -> tuple[Measured, list[str]]:
    """Asks every way some times; gives the times, and the differences between the answers."""
    measured: Measured = {}
    differences: list[str] = []
    for question in questions:
        times, wanted = _asked(field, question, GRISTMILL, asks)
        measured[question.name] = {GRISTMILL: times}
        for way in field.ways(question):
            times, rows = _asked(field, question, way, asks)
            measured[question.name][way] = times
            if told := difference(wanted, rows):
                differences.append(f"{question.name}: Gristmill and {way.engine}, {way}: {told}")
    return measured, differences


def difference(ours: Rows, theirs: Rows) -> str | None:
    """What two answers differ in, whatever the order of their rows."""
    left, right = Counter(ours), Counter(theirs)
    if left == right:
        return None
    only_ours = sorted((left - right).elements(), key=repr)
    only_theirs = sorted((right - left).elements(), key=repr)
    return (
        f"{len(only_ours)} of {len(ours)} rows here only: {only_ours[:3]}, "
        f"{len(only_theirs)} of {len(theirs)} there only: {only_theirs[:3]}"
    )


def best(times: dict[Way, Times], engine: str, near: float = 1.0) -> list[Way]:
    """The best way to ask an engine, and those that take at most `near` times as long."""
    own = {way: taken.median for way, taken in times.items() if way.engine == engine}
    limit = near * min(own.values(), default=0.0)
    return sorted((way for way in own if own[way] <= limit), key=lambda way: own[way])


def hot(
    field: Field, questions: Sequence[Question], trials: Measured, rounds: int, asks: int
) -> Measured:
    """Asks everybody again and again: in turns, there and back, `asks` times a turn."""
    chosen = {
        question.name: [
            GRISTMILL,
            *(way for peer in field.peers for way in best(trials[question.name], peer, NEAR)),
        ]
        for question in questions
    }
    measured: Measured = {name: {way: Times() for way in ways} for name, ways in chosen.items()}
    for question in questions:  # Reads what a first question reads, unmeasured.
        for way in chosen[question.name]:
            field.ask(question, way)
    for number in range(rounds):
        say(f"hot, round {number + 1} of {rounds}")
        for question in questions:
            ways = chosen[question.name]
            for way in ways:
                measured[question.name][way].rounds.append([])
            for way in [*ways, *reversed(ways)]:
                times, _ = _asked(field, question, way, asks)
                measured[question.name][way].rounds[-1] += times.rounds[0]
    return measured


def cold(
    field: Field, questions: Sequence[Question], trials: Measured, rounds: int
) -> tuple[Measured, Measured]:
    """Opens an engine, asks one question, and so on: the best wording in every sort order. Then the
    same as if Gristmill had never been asked before."""
    measured: Measured = {}
    new: dict[str, Times] = {}
    for number in range(rounds):
        say(f"cold, round {number + 1} of {rounds}")
        for question in questions:
            ways = _best_of_each_order(trials[question.name])
            of_question = measured.setdefault(question.name, {way: Times() for way in ways})
            for way in ways if number % 2 == 0 else reversed(ways):
                field.reopen(way.engine)
                seconds, _ = field.ask(question, way)
                of_question[way].rounds.append([seconds])
            unasked = field.gristmill.ask_new(question)
            new.setdefault(question.name, Times()).rounds.append([unasked])
    return measured, {name: {**measured[name], GRISTMILL: new[name]} for name in measured}


def together(
    field: Field,
    questions: Sequence[Question],
    measured: Measured,
    clients: int,
    seconds: float,
) -> dict[str, list[Load]]:
    """Several clients at once ask each engine all questions in turn, each in its best way."""
    loads: dict[str, list[Load]] = {name: [] for name in field.names()}
    for name in [*field.names(), *reversed(field.names())]:
        say(f"{clients} clients, {name}")
        if name == "gristmill":
            load = field.gristmill.ask_many(questions, clients, seconds)
        else:
            in_sql = [
                statements(question, best(measured[question.name], name)[0])
                for question in questions
            ]
            load = field.peers[name].ask_many(in_sql, clients, seconds)
        loads[name].append(load)
    return loads


def say(text: str) -> None:
    """Tells how far it is."""
    print(text, file=sys.stderr, flush=True)


def _best_of_each_order(times: dict[Way, Times]) -> list[Way]:
    ways: dict[tuple[str, str], Way] = {}
    for way in sorted(times, key=lambda way: times[way].median):
        ways.setdefault((way.engine, way.order), way)
    return sorted(ways.values(), key=lambda way: (way != GRISTMILL, way.engine, way.order))


def _asked(field: Field, question: Question, way: Way, asks: int) -> tuple[Times, Rows]:
    """A question asked some times: what it took, and the last answer."""
    answers = [field.ask(question, way) for _ in range(asks)]
    return Times([[seconds for seconds, _ in answers]]), answers[-1][1]
