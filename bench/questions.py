"""The questions, each as Gristmill is asked over HTTP and as SQL for its peers.

A question may be written in several ways in SQL; like the sort order, the best is taken. Answers
are rows whose order does not matter; times are texts, `2026-01-05` or `2026-01-05 09:00:00`.
`count(DISTINCT …)` is exact everywhere (in ClickHouse it is `uniqExact`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from data import DAYS, START, Dataset, user_text

Rows = list[tuple[Any, ...]]
Ways = tuple[tuple[str, ...], ...]
"""Ways to write a question in SQL, each of one or more statements about `{table}`."""

DAY = 86_400
CHDB_DAY, DUCKDB_DAY = "toDate(time)", "time::DATE"
FIRST_DAY = "DATE '2026-01-01'"
FUNNEL = ("view_item", "add_to_cart", "purchase")
WEEK = ("2026-01-08", "2026-01-15")
IN_ORDER = " SETTINGS optimize_aggregation_in_order = 1"


@dataclass(frozen=True)
class Question:
    """What everybody is asked."""

    name: str
    title: str
    target: str
    """Path and parameters of the request to Gristmill."""
    rows: Callable[[Any], Rows]
    """The rows of Gristmill's JSON answer."""
    chdb: Ways
    duckdb: Ways
    body: str | None = None
    """What is posted; without it the request is a GET."""
    is_optional: bool = False
    """Whether a version of Gristmill may not know it yet."""

    def ways(self, peer: str) -> Ways:
        """How a peer is asked."""
        return {"chdb": self.chdb, "duckdb": self.duckdb}[peer]


def questions(data: Dataset, ids: str) -> list[Question]:
    """All questions. `ids` says whether the peers keep ids as a `text` or as a `number`."""
    return [
        _funnel(),
        _users_per_day(),
        _hours_and_types(),
        _groups("types", "count and exact users per event type", "event_type"),
        _top_pages(),
        _summary(),
        _retention(),
        _one_user(data.busy_user, ids),
        _filtered(),
        _groups("countries", "count and exact users per country", "country"),
        _amounts("sum", "sum of a number per day", "sum", "sum(amount)", "sum(amount)"),
        # At a multiple of 20 values ClickHouse takes the upper neighbour of the rank, DuckDB the
        # lower one; a hair more than 0.95 makes them agree.
        _amounts(
            "p95",
            "exact p95 of a number per day",
            "p95",
            "quantileExact(0.95)(amount)",
            "quantile_disc(amount, 0.950000001)",
        ),
    ]


def _funnel() -> Question:
    steps = [{"name": name, "event_type": name} for name in FUNNEL]
    conditions = ", ".join(f"event_type = '{name}'" for name in FUNNEL)
    chdb = f"""
        SELECT countIf(level >= 1), countIf(level >= 2), countIf(level >= 3) FROM (
            SELECT windowFunnel({DAY})(time, {conditions}) AS level FROM {{table}}
            WHERE event_type IN {FUNNEL} GROUP BY user_id)"""
    first, second, third = FUNNEL
    # The latest first step before a second one, and the latest such pair before a third.
    duckdb = f"""
        WITH pairs AS (
            SELECT b.user_id, b.time, a.time AS start
            FROM (SELECT * FROM {{table}} WHERE event_type = '{second}') b
            ASOF JOIN (SELECT * FROM {{table}} WHERE event_type = '{first}') a
                ON a.user_id = b.user_id AND a.time <= b.time
            WHERE b.time <= a.time + INTERVAL 1 DAY)
        SELECT
            (SELECT count(DISTINCT user_id) FROM {{table}} WHERE event_type = '{first}'),
            (SELECT count(DISTINCT user_id) FROM pairs),
            (SELECT count(DISTINCT c.user_id)
             FROM (SELECT * FROM {{table}} WHERE event_type = '{third}') c
             ASOF JOIN pairs ON pairs.user_id = c.user_id AND pairs.time <= c.time
             WHERE c.time <= pairs.start + INTERVAL 1 DAY)"""
    return Question(
        "funnel",
        "3-step funnel, 1-day window",
        "/v1/analytics/funnel",
        lambda answer: [tuple(step["users"] for step in answer["steps"])],
        ((chdb,), (chdb + IN_ORDER,)),
        ((duckdb,),),
        body=json.dumps({"steps": steps, "window": f"{DAY}s"}),
    )


def _users_per_day() -> Question:
    direct = "SELECT {0} AS day, count(DISTINCT user_id) FROM {{table}} GROUP BY day"
    pairs = (
        "SELECT day, count(*) FROM (SELECT DISTINCT {0} AS day, user_id FROM {{table}}) "
        "GROUP BY day"
    )
    return Question(
        "users_per_day",
        "exact users per day, 30 days",
        _target("timeseries", metric="unique_users", granularity="day"),
        _days,
        tuple((way.format(CHDB_DAY),) for way in (direct, pairs)),
        tuple((way.format(DUCKDB_DAY),) for way in (direct, pairs)),
    )


def _hours_and_types() -> Question:
    def rows(answer: Any) -> Rows:
        series = answer["series"]
        return [(_time(point), point["labels"]["event_type"], point["value"]) for point in series]

    start, end = WEEK
    sql = (
        "SELECT {0} AS hour, event_type, count(*) FROM {{table}} "
        f"WHERE time >= '{start} 00:00:00' AND time < '{end} 00:00:00' GROUP BY hour, event_type"
    )
    times = {"start": f"{start}T00:00:00Z", "end": f"{end}T00:00:00Z"}
    return Question(
        "hours_and_types",
        "count per hour and type, 7 days",
        _target("timeseries", granularity="hour", group_by="event_type", **times),
        rows,
        ((sql.format("toStartOfHour(time)"),),),
        ((sql.format("date_trunc('hour', time)"),),),
    )


def _groups(name: str, title: str, column: str) -> Question:
    direct = f"SELECT {column}, count(*), count(DISTINCT user_id) FROM {{table}} GROUP BY {column}"
    pairs = (
        f"SELECT {column}, sum(events), count(*) FROM (SELECT {column}, user_id, "
        f"count(*) AS events FROM {{table}} GROUP BY {column}, user_id) GROUP BY {column}"
    )
    ways = ((direct,), (pairs,))
    return Question(name, title, _target("top", property=column, limit=100), _values, ways, ways)


def _top_pages() -> Question:
    at_once = (
        "SELECT page_url, count(*) AS events, count(DISTINCT user_id) FROM {table} "
        "GROUP BY page_url ORDER BY events DESC, page_url::VARCHAR LIMIT 10"
    )
    pages_first = (
        "SELECT page_url, count(*), count(DISTINCT user_id) FROM {table} WHERE page_url IN ("
        "SELECT page_url FROM {table} GROUP BY page_url "
        "ORDER BY count(*) DESC, page_url::VARCHAR LIMIT 10) GROUP BY page_url"
    )
    return Question(
        "top_pages",
        "top 10 pages with exact users",
        _target("top", property="page_url", limit=10),
        _values,
        ((at_once,), (pages_first,)),
        ((at_once,), (pages_first,)),
    )


def _summary() -> Question:
    def rows(answer: Any) -> Rows:
        totals = (answer["total_events"], answer["unique_users"], answer["sessions"])
        return [totals, *answer["events_by_type"].items()]

    # No two users share a session's id here, which spares the peers the pairs with the user.
    totals = "SELECT count(*), count(DISTINCT user_id), count(DISTINCT session_id) FROM {table}"
    types = "SELECT event_type, count(*) FROM {table} GROUP BY event_type"
    ways = ((totals, types),)
    title = "events, users, sessions, events by type"
    return Question("summary", title, _target("summary"), rows, ways, ways)


def _retention() -> Question:
    def rows(answer: Any) -> Rows:
        return [
            (cohort["start"][:10], age, users)
            for cohort in answer["cohorts"]
            for age, users in enumerate(cohort["retained"])
            if users
        ]

    # Thirty days are the bits of one number for each user.
    chdb = f"""
        SELECT toDate(toDateTime({START}, 'UTC')) + days[1] AS cohort,
            arrayJoin(arrayMap(day -> day - days[1], days)) AS age, count()
        FROM (SELECT bitPositionsToArray(groupBitOr(
                bitShiftLeft(1::UInt32, intDiv(toUInt32(time) - {START}, {DAY})))) AS days
            FROM {{table}} GROUP BY user_id)
        GROUP BY cohort, age"""
    duckdb = f"""
        WITH of_user AS (
            SELECT bit_or(1::BIGINT << date_diff('day', {FIRST_DAY}, time::DATE)) AS days
            FROM {{table}} GROUP BY user_id),
        alike AS (
            SELECT days, bit_count((days & -days) - 1) AS first, count(*) AS users
            FROM of_user GROUP BY days)
        SELECT {FIRST_DAY} + first::INTEGER AS cohort, day - first AS age, sum(users)
        FROM alike, range({DAYS}) AS all_days(day) WHERE (days >> day) & 1 = 1
        GROUP BY cohort, age"""
    return Question(
        "retention",
        "day retention, first-time cohorts",
        "/v1/analytics/retention",
        rows,
        ((chdb,), (chdb + IN_ORDER,)),
        ((duckdb,),),
        body=json.dumps({"granularity": "day"}),
    )


def _one_user(user: int, ids: str) -> Question:
    def rows(answer: Any) -> Rows:
        return [row(event, event["properties"]) for event in answer["events"]]

    def row(event: Any, properties: Any) -> tuple[Any, ...]:
        session = event["session_id"] if ids == "text" else int(event["session_id"][1:])
        number, amount = int(event["id"][1:]), properties.get("amount", 0)
        place = (properties["plan"], properties["country"], amount)
        return (number, session, event["event_type"], _time(event), event["page_url"], *place)

    name = f"'{user_text(user)}'" if ids == "text" else str(user)
    sql = (
        "SELECT id, session_id, event_type, time, page_url, plan, country, {amount} "
        f"FROM {{{{table}}}} WHERE user_id = {name} ORDER BY time DESC LIMIT 100"
    )
    return Question(
        "one_user",
        "one user's newest 100 events",
        f"/v1/analytics/users/{user_text(user)}?limit=100",
        rows,
        ((sql.format(amount="amount"),),),
        ((sql.format(amount="coalesce(amount, 0)"),),),
    )


def _filtered() -> Question:
    sql = "SELECT {0} AS day, count(*) FROM {{table}} WHERE plan = 'pro' GROUP BY day"
    return Question(
        "filtered",
        "count per day of one plan",
        _target("timeseries", granularity="day", **{"filters.plan": "pro"}),
        _days,
        ((sql.format(CHDB_DAY),),),
        ((sql.format(DUCKDB_DAY),),),
    )


def _amounts(name: str, title: str, metric: str, chdb: str, duckdb: str) -> Question:
    sql = "SELECT {0} AS day, {1} FROM {{table}} WHERE {2} GROUP BY day"
    return Question(
        name,
        title,
        _target("timeseries", metric=metric, property="amount", granularity="day"),
        _days,
        (
            (sql.format(CHDB_DAY, chdb, "amount > 0"),),
            (sql.format(CHDB_DAY, chdb, "event_type = 'purchase'"),),
        ),
        ((sql.format(DUCKDB_DAY, duckdb, "amount IS NOT NULL"),),),
        is_optional=True,
    )


def _target(question: str, **parameters: object) -> str:
    query = f"?{urlencode(parameters)}" if parameters else ""
    return f"/v1/analytics/{question}{query}"


def _days(answer: Any) -> Rows:
    series = answer["series"]
    return [(point["timestamp"][:10], point["value"]) for point in series if point["value"]]


def _values(answer: Any) -> Rows:
    values = answer["values"]
    return [(value["value"], value["count"], value["unique_users"]) for value in values]


def _time(item: Any) -> str:
    return item["timestamp"][:19].replace("T", " ")
