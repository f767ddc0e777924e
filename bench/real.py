"""Real data: Gristmill's answers held against those of ClickHouse's own functions.

Uniques against `uniqExact`, funnels against `windowFunnel`, retention against `retention` and
against a join, percentiles against `quantileExact`, with zones, filters and ties of time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from gristmill import Gristmill
from peers import CHDB, Kind, Peer
from questions import Question, Rows
from rounds import Field, say, trial
from sources import SOURCES, Condition, Source

DATA_DIR = Path(__file__).parent.parent / ".." / "shared" / "data"
TABLE = Kind("chdb", {"events": "user, time"}, CHDB.size)
SEED = 7
FUNNELS = 60
WINDOWS = (1, 10, 60, 600, 3_600, 86_400, 604_800, 2_592_000)
ZONES = ("UTC", "America/Sao_Paulo", "Asia/Kathmandu", "Europe/Berlin")
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
BUCKETS = {
    "day": "toDate({time}, '{zone}')",
    "week": "toStartOfWeek({time}, 1, '{zone}')",
    "month": "toStartOfMonth({time}, '{zone}')",
}


def differences(binary: Path, scratch: Path, threads: int) -> list[str]:
    """Every difference between Gristmill and ClickHouse over the real data."""
    folder = Path(os.environ.get("GRISTMILL_DATA_DIR", DATA_DIR)).resolve()
    found: list[str] = []
    for source in SOURCES:
        file = folder / source.file
        if not file.exists():
            say(f"not checked: {file} is absent; GRISTMILL_DATA_DIR names another place")
            continue
        name = source.file.split("-")[0]
        gristmill = Gristmill(binary, scratch / name / "data", threads)
        peer = Peer(TABLE, scratch / name / "chdb", threads)
        try:
            gristmill.run_import(source.flags, file)
            gristmill.compact()
            peer.ask(_table(source, file))
            field = Field(gristmill, [peer])
            every = list(_questions(source, peer))
            asked = [question for question in every if gristmill.knows(question)]
            _, wrong = trial(field, asked, 1)
            found += [f"{name}: {text}" for text in wrong]
            print(f"{name}: {len(asked)} questions, {len(wrong)} differences", end="")
            print(f", {len(every) - len(asked)} not known yet" * (len(asked) < len(every)))
        finally:
            gristmill.close()
            peer.close()
    return found


def _table(source: Source, file: Path) -> tuple[str, ...]:
    columns = source.columns.replace("'", "''")
    return (
        "SET date_time_input_format = 'best_effort'",
        f"CREATE TABLE events ENGINE = MergeTree ORDER BY (user, time) AS SELECT {source.select} "
        f"FROM file('{file}', {source.format}, '{columns}')",
    )


def _questions(source: Source, peer: Peer) -> Iterator[Question]:
    """Everything that is asked about one file; the same every time."""
    random = Random(SEED)
    of_type = peer.ask(("SELECT type FROM events GROUP BY type ORDER BY count() DESC, type",))
    types = [row[0] for row in of_type[1][:10]]
    in_order = "SELECT user FROM events GROUP BY user ORDER BY count() DESC, user"
    users = [row[0] for row in peer.ask((in_order,))[1]]
    yield _summary()
    for name in ("event_type", "page_url", "user_id", *source.properties):
        yield _top(name)
    for zone in ZONES:
        for granularity in ("hour", *BUCKETS):
            for condition in (None, random.choice(source.conditions)):
                yield _series("count", "count()", granularity, zone, condition)
                yield _series("unique_users", "uniqExact(user)", granularity, zone, condition)
                yield _series("sessions", SESSIONS, granularity, zone, condition)
    for _ in range(FUNNELS):
        steps = [random.choice(types) for _ in range(random.randint(2, 5))]
        condition = random.choice((None, None, *source.conditions))
        yield _funnel(source, steps, random.choice(WINDOWS), condition)
    for granularity in BUCKETS:
        for zone in ZONES[:2]:
            for start in ([], random.sample(types, 2)):
                returning = random.choice(([], random.sample(types, 2)))
                yield _first_time(granularity, zone, start, returning)
                yield _recurring(peer, granularity, zone, start, returning)
    for user in [*users[:3], *random.sample(users, 5)]:
        yield _user(user)
    if source.number:
        yield from _numbers(source.number)


def _summary() -> Question:
    def rows(answer: Any) -> Rows:
        names = ("total_events", "unique_users", "sessions")
        return [(*(answer[name] for name in names), *_span(answer, "first_event", "last_event"))]

    sql = f"SELECT count(), uniqExact(user), {SESSIONS}, {SPAN} FROM {{table}}"
    return _question("summary", "/v1/analytics/summary", rows, sql)


def _top(name: str) -> Question:
    def rows(answer: Any) -> Rows:
        values = answer["values"]
        return [(value["value"], value["count"], value["unique_users"]) for value in values]

    built_in = {"event_type": "type", "page_url": "page", "user_id": "user"}
    column = built_in.get(name, name)
    sql = (
        f"SELECT toString({column}) AS value, count() AS events, uniqExact(user) FROM {{table}} "
        f"WHERE {column} IS NOT NULL GROUP BY value ORDER BY events DESC, value LIMIT 1000"
    )
    target = f"/v1/analytics/top?{urlencode({'property': name, 'limit': 1000})}"
    return _question(f"top {name}", target, rows, sql)


def _series(
    metric: str, sql: str, granularity: str, zone: str, condition: Condition | None, of: str = ""
) -> Question:
    def rows(answer: Any) -> Rows:
        points = [point for point in answer["series"] if point["value"]]
        return [(label(point["timestamp"]), point["value"]) for point in points]

    def label(text: str) -> str | int:
        time = datetime.fromisoformat(text)
        in_zone = time.astimezone(ZoneInfo(zone))
        return int(time.timestamp()) if granularity == "hour" else str(in_zone.date())

    hour = f"toUnixTimestamp(toStartOfHour(time, '{zone}'))"
    bucket = BUCKETS.get(granularity, hour).format(time="time", zone=zone)
    where = f"{condition[1] if condition else 'true'} AND {f'{of} IS NOT NULL' if of else 'true'}"
    statement = (
        f"SELECT {bucket} AS bucket, {sql} AS value FROM {{table}} WHERE {where} "
        "GROUP BY bucket HAVING value != 0"
    )
    parameters = {"metric": metric, "granularity": granularity, "tz": zone}
    parameters |= {"property": of} if of else {}
    parameters |= {"where": json.dumps(condition[0])} if condition else {}
    target = f"/v1/analytics/timeseries?{urlencode(parameters)}"
    name = f"{metric} by {granularity} in {zone} of {condition}"
    question = _question(name, target, rows, statement)
    return replace(question, is_optional=metric not in ("count", "unique_users"))


def _numbers(number: str) -> Iterator[Question]:
    functions = {name: f"{name}({number})" for name in ("sum", "avg", "min", "max")}
    functions |= {name: f"quantileExact({at})({number})" for name, at in PERCENTILES.items()}
    for metric, sql in functions.items():
        for granularity in ("hour", "month"):
            yield _series(metric, sql, granularity, "UTC", None, number)


def _funnel(
    source: Source, types: list[str], seconds: int, condition: Condition | None
) -> Question:
    body: dict[str, Any] = {"steps": [{"event_type": name} for name in types]}
    body |= {"window": f"{seconds}s"} | ({"where": condition[0]} if condition else {})
    steps = ", ".join(f"type = '{name}'" for name in types)
    reached = ", ".join(f"countIf(level > {step})" for step in range(len(types)))
    sql = (
        f"SELECT {reached} FROM (SELECT windowFunnel({seconds * source.ticks})"
        f"({source.moment}, {steps}) AS level FROM {{table}} "
        f"WHERE {condition[1] if condition else 'true'} GROUP BY user)"
    )
    name = f"funnel {types} in {seconds} s of {condition}"
    target = "/v1/analytics/funnel"
    return _question(
        name, target, lambda answer: [tuple(step["users"] for step in answer["steps"])], sql, body
    )


def _first_time(granularity: str, zone: str, start: list[str], returning: list[str]) -> Question:
    def rows(answer: Any) -> Rows:
        cohorts = [cohort for cohort in answer["cohorts"] if cohort["users"]]
        return [
            (_local_day(cohort["start"], zone), age, users)
            for cohort in cohorts
            for age, users in enumerate([cohort["users"], *cohort["retained"]], start=-1)
            if users
        ]

    cohort, back = (
        BUCKETS[granularity].format(time=time, zone=zone) for time in ("entered", "time")
    )
    entries = f"(SELECT user, min(time) AS entered FROM {{table}} WHERE {_in(start)} GROUP BY user)"
    sql = (
        f"SELECT {cohort} AS cohort, dateDiff('{granularity}', cohort, {back}) AS age, "
        f"uniqExact(user) FROM {{table}} INNER JOIN {entries} AS entries USING user "
        f"WHERE {_in(returning)} AND time >= entered GROUP BY cohort, age UNION ALL "
        f"SELECT {cohort} AS cohort, -1 AS age, count() FROM {entries} GROUP BY cohort"
    )
    body = _retention(granularity, zone, start, returning)
    name = f"first-time retention {body}"
    return _question(name, "/v1/analytics/retention", rows, sql, body)


def _recurring(
    peer: Peer, granularity: str, zone: str, start: list[str], returning: list[str]
) -> Question:
    """The first cohorts over eight periods; the cohort's own one is left to the join above."""
    bucket = BUCKETS[granularity].format(time="time", zone=zone)
    first = f"SELECT DISTINCT {bucket} AS cohort FROM events ORDER BY cohort LIMIT 6"
    days = [row[0] for row in peer.ask((first,))[1]]

    def rows(answer: Any) -> Rows:
        return [
            (_local_day(cohort["start"], zone), age, users)
            for cohort in answer["cohorts"]
            if _local_day(cohort["start"], zone) in days
            for age, users in enumerate([cohort["users"], *cohort["retained"][1:9]])
            if users
        ]

    def of_cohort(day: str) -> str:
        later = (f"toDate('{day}') + INTERVAL {age} {granularity}" for age in range(1, 9))
        met = ", ".join(f"{bucket} = {then} AND {_in(returning)}" for then in later)
        return (
            f"SELECT '{day}' AS cohort, arrayJoin(arrayEnumerate(counts)) - 1 AS age, "
            f"counts[age + 1] AS users FROM (SELECT sumForEach(met) AS counts FROM (SELECT "
            f"retention({bucket} = toDate('{day}') AND {_in(start)}, {met}) AS met "
            "FROM {table} GROUP BY user)) WHERE users > 0"
        )

    sql = " UNION ALL ".join(of_cohort(day) for day in days)
    body = _retention(granularity, zone, start, returning) | {"mode": "recurring"}
    return _question(f"retention {body}", "/v1/analytics/retention", rows, sql, body)


def _retention(granularity: str, zone: str, start: list[str], back: list[str]) -> dict[str, Any]:
    body: dict[str, Any] = {"granularity": granularity, "tz": zone}
    body |= {"start_event": {"event_type": start}} if start else {}
    return body | ({"return_event": {"event_type": back}} if back else {})


def _user(user: str) -> Question:
    def rows(answer: Any) -> Rows:
        profile = answer["user_profile"]
        totals = (profile["total_events"], profile["total_sessions"])
        return [(*totals, *_span(profile, "first_seen", "last_seen"))]

    escaped = user.replace("\\", "\\\\").replace("'", "\\'").replace("{", "{{").replace("}", "}}")
    sql = f"SELECT count(), {SESSIONS}, {SPAN} FROM {{table}} WHERE user = '{escaped}'"
    target = f"/v1/analytics/users/{quote(user, safe='')}?include_events=false"
    return _question(f"user {user}", target, rows, sql)


SESSIONS = "uniqExactIf((user, session), session != '')"
SPAN = ", ".join(f"toUnixTimestamp64Milli(toDateTime64({end}(time), 3))" for end in ("min", "max"))


def _span(answer: Any, *names: str) -> tuple[int, ...]:
    times = (datetime.fromisoformat(answer[name]) for name in names)
    return tuple(round(time.timestamp() * 1_000) for time in times)


def _local_day(text: str, zone: str) -> str:
    return str(datetime.fromisoformat(text).astimezone(ZoneInfo(zone)).date())


def _in(types: list[str]) -> str:
    names = ", ".join(f"'{name}'" for name in types)
    return f"type IN ({names})" if types else "true"


def _question(
    name: str, target: str, rows: Any, sql: str, body: dict[str, Any] | None = None
) -> Question:
    posted = None if body is None else json.dumps(body)
    return Question(name, name, target, rows, ((sql,),), (), posted)
