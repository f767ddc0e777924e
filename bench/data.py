"""The generated events: the same for everybody, and always the same for a number of events.

They are kept as one Parquet file in the order of time. Ids are numbers there, and `user_text`,
`session_text` and `event_text` say how they are written where they are texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

VERSION = 1  # Part of the file's name: raise it when the events change.
SEED = 20260101
START = 1_767_225_600  # 2026-01-01T00:00:00Z
DAYS = 30
EVENTS_PER_USER = 50
EVENTS_PER_SESSION = 8
PAGES = 8_000
ROWS_PER_GROUP = 100_000

TYPES = (
    "page_view", "click", "scroll", "search", "view_item", "add_to_cart",
    "checkout", "purchase", "login", "share", "support", "error",
)  # fmt: skip
# How often each type comes, in a visit to look around, to choose and to buy, and each of them
# early, in the middle and late.
TYPE_WEIGHTS = (
    ((50, 14, 14, 6, 8, 0.3, 0, 0, 4, 1, 0.7, 2), (48, 16, 18, 5, 8, 0.4, 0, 0, 0, 2, 0.6, 2),
     (46, 16, 22, 4, 7, 0.4, 0, 0, 0, 2, 0.6, 2)),
    ((36, 14, 10, 12, 22, 1, 0, 0, 3, 0.5, 0.5, 1), (28, 16, 10, 8, 28, 8, 0.3, 0.1, 0, 1, 0.6, 1),
     (26, 18, 10, 6, 26, 10, 1, 0.2, 0, 1, 0.8, 1)),
    ((34, 14, 8, 12, 26, 2, 0, 0, 3, 0.2, 0.3, 0.5), (20, 14, 6, 4, 28, 22, 4, 1, 0, 0.2, 0.3, 0.5),
     (16, 12, 4, 2, 10, 12, 22, 20, 0, 0.5, 0.5, 1)),
)  # fmt: skip
INTENTS = (0.72, 0.2, 0.08)
HOUR_WEIGHTS = (2, 1, 1, 1, 1, 2, 4, 7, 9, 10, 10, 9, 9, 10, 10, 9, 9, 9, 10, 11, 11, 9, 6, 4)
PLANS = (("free", 0.8), ("pro", 0.15), ("enterprise", 0.05))
COUNTRIES = (
    "US", "DE", "BR", "IN", "GB", "FR", "JP", "CA", "ES", "IT", "MX", "NL", "AU", "PL", "SE",
    "TR", "AR", "KR", "CH", "ID", "BE", "AT", "PT", "DK", "NO", "FI", "CZ", "IE", "GR", "NZ",
    "ZA", "CL", "CO", "PE", "EG", "NG", "KE", "VN", "TH", "PH",
)  # fmt: skip

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Generated events on disk, and what questions about them need to know."""

    parquet: str
    events: int
    users: int
    sessions: int
    busy_user: int
    """A user with more than a hundred events, or nearly, none of them at the same second."""


def dataset(folder: Path, events: int, users: int | None = None) -> Dataset:
    """The events in `folder`, generated if they are not there yet."""
    users = users or max(events // EVENTS_PER_USER, 1)
    name = f"events-{events}-{users}-v{VERSION}"
    about = folder / f"{name}.json"
    if about.exists():
        return Dataset(**json.loads(about.read_text()))
    folder.mkdir(parents=True, exist_ok=True)
    table, sessions = _generate(events, users)
    path = folder / f"{name}.parquet"
    pq.write_table(table, path, row_group_size=ROWS_PER_GROUP, compression="zstd")
    busy = _busy_user(table["user"].to_numpy(), table["time"].to_numpy())
    made = Dataset(str(path), events, users, sessions, busy)
    about.write_text(json.dumps(asdict(made)))
    return made


def user_text(user: int) -> str:
    """A user's id as a text."""
    return f"u{user:07}"


def session_text(session: int) -> str:
    """A session's id as a text."""
    return f"s{session:09}"


def event_text(event: int) -> str:
    """An event's id as a text."""
    return f"e{event:09}"


def batches(parquet: str, group: int, size: int) -> Iterator[tuple[int, bytes]]:
    """The events of a row group as NDJSON for Gristmill, `size` events and fewer at a time."""
    table = pq.ParquetFile(parquet).read_row_group(group)
    lines = [
        f'{{"id":"{event_text(event)}","user_id":"{user_text(user)}",'
        f'"session_id":"{session_text(session)}","event_type":"{kind}","timestamp":{time},'
        f'"page_url":"{page}","properties":{{"plan":"{plan}","country":"{country}"'
        + (f',"amount":{amount}}}}}' if amount else "}}")
        for event, user, session, kind, time, page, plan, country, amount in zip(
            *(_values(table[name].combine_chunks()) for name in COLUMNS), strict=True
        )
    ]
    for start in range(0, len(lines), size):
        some = lines[start : start + size]
        yield len(some), "\n".join(some).encode()


COLUMNS = ("id", "user", "session", "event_type", "time", "page_url", "plan", "country", "amount")


def _values(column: pa.Array) -> list[Any]:
    """A column's values; 0 where there is none."""
    if isinstance(column, pa.DictionaryArray):
        names = np.array(column.dictionary.to_pylist(), dtype=object)
        return names[column.indices.to_numpy()].tolist()
    return column.fill_null(0).to_numpy().tolist()


def _generate(events: int, users: int) -> tuple[pa.Table, int]:
    """The events as a table, and how many sessions they have."""
    random = np.random.default_rng(SEED)
    lengths = _session_lengths(random, events, users)
    sessions = len(lengths)
    session_user = _session_users(random, sessions, users)
    session_of = np.repeat(np.arange(sessions), lengths)
    firsts = np.cumsum(lengths) - lengths
    place = np.arange(events) - firsts[session_of]

    gaps = 1 + random.exponential(35.0, events).astype(np.int64)
    gaps[firsts] = 0
    elapsed = np.cumsum(gaps)
    elapsed -= elapsed[firsts][session_of]
    begin = _session_begins(random, session_user, users)
    times = (begin[session_of] + elapsed) % (DAYS * 86_400)

    intent = random.choice(3, sessions, p=INTENTS)
    third = np.minimum(3 * place // np.maximum(lengths[session_of], 1), 2)
    kinds = _types(random, intent[session_of] * 3 + third)
    pages = _pages(random, place == 0)
    amounts = np.minimum(np.exp(random.normal(8.0, 1.0, events)).astype(np.int64) + 5, 500_000)

    order = np.argsort(times, kind="stable")
    kinds, user = kinds[order], session_user[session_of[order]]
    plan = random.choice(len(PLANS), users, p=[share for _, share in PLANS])[user]
    country = random.choice(len(COUNTRIES), users, p=_zipf(len(COUNTRIES), 1.0, 1))[user]
    names = [f"https://shop.example/{('item', 'list', 'blog')[n % 3]}/{n:05}" for n in range(PAGES)]
    bought = kinds == TYPES.index("purchase")
    columns = {
        "id": pa.array(np.arange(events, dtype=np.uint32)),
        "user": pa.array(user.astype(np.uint32)),
        "session": pa.array(session_of[order].astype(np.uint32)),
        "event_type": _coded(kinds, TYPES),
        "time": pa.array(START + times[order]),
        "page_url": _coded(pages[order], names),
        "plan": _coded(plan, [name for name, _ in PLANS]),
        "country": _coded(country, COUNTRIES),
        "amount": pa.array(amounts[order].astype(np.uint32), mask=~bought),
    }
    return pa.table(columns), sessions


def _session_lengths(random: np.random.Generator, events: int, users: int) -> Ints:
    """How many events each session has: at least one session a user, `events` in all."""
    lengths = random.geometric(1 / EVENTS_PER_SESSION, events // 4 + users).astype(np.int64)
    lengths[:users] = 1
    ends = np.cumsum(lengths)
    last = int(np.searchsorted(ends, events))
    lengths = lengths[: last + 1]
    lengths[last] -= ends[last] - events
    return lengths


def _session_users(random: np.random.Generator, sessions: int, users: int) -> Ints:
    """Whose each session is: first one for every user, then few users have most of them."""
    ranks = random.permutation(users)
    rest = random.choice(users, sessions - users, p=_zipf(users, 0.7, users // 200 + 1))
    return np.concatenate([np.arange(users), ranks[rest]])


def _session_begins(random: np.random.Generator, session_user: Ints, users: int) -> Ints:
    """When each session begins: more of them soon after the user came, and by day."""
    came = np.maximum(random.uniform(-DAYS / 2, DAYS, users), 0.0)[session_user]
    day = (came + (DAYS - came) * random.random(len(session_user)) ** 1.6).astype(np.int64)
    weights = np.array(HOUR_WEIGHTS) / sum(HOUR_WEIGHTS)
    hour = random.choice(24, len(session_user), p=weights)
    return day * 86_400 + hour * 3_600 + random.integers(0, 3_600, len(session_user))


def _types(random: np.random.Generator, moods: Ints) -> Ints:
    """A type for every event, by what the visit is for and how far it has come."""
    kinds = np.empty(len(moods), dtype=np.int64)
    for mood in range(9):
        weights = np.array(TYPE_WEIGHTS[mood // 3][mood % 3])
        chosen = np.flatnonzero(moods == mood)
        ends = np.cumsum(weights / weights.sum())
        kinds[chosen] = np.searchsorted(ends[:-1], random.random(len(chosen)), side="right")
    return kinds


def _pages(random: np.random.Generator, opening: npt.NDArray[np.bool_]) -> Ints:
    """A page for every event: the one before it in the session, or another."""
    moved = opening | (random.random(len(opening)) < 0.6)
    pages = random.choice(PAGES, len(opening), p=_zipf(PAGES, 1.0, 20))
    return pages[np.maximum.accumulate(np.where(moved, np.arange(len(opening)), 0))]


def _zipf(count: int, exponent: float, offset: int) -> npt.NDArray[np.float64]:
    """Shares that fall with the rank."""
    weights = 1.0 / (np.arange(count) + offset) ** exponent
    return weights / weights.sum()


def _coded(codes: Ints, names: tuple[str, ...] | list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), list(names))


def _busy_user(users: Ints, times: Ints) -> int:
    """The user whose events are nearest to 150, among those without two at the same second."""
    counts = np.bincount(users)
    for user in np.argsort(np.abs(counts - 150), kind="stable")[:1000]:
        own = times[users == user]
        if len(np.unique(own)) == len(own):
            return int(user)
    raise ValueError("every user has two events at the same second")
