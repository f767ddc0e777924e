"""The files of real events, and how Gristmill and ClickHouse read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Condition = tuple[Any, str]
"""A filter as Gristmill takes it, and as SQL."""


@dataclass(frozen=True)
class Source:
    """A file of real events."""

    file: str
    flags: tuple[str, ...]
    """How its fields are named, for the import."""
    format: str
    columns: str
    """What it holds, for ClickHouse."""
    select: str
    """The same as user, session, type, time and page, and then the properties."""
    properties: tuple[str, ...]
    number: str | None
    conditions: tuple[Condition, ...]
    moment: str = "time"
    """The time as something that `windowFunnel` takes, in units of which a second has `ticks`."""
    ticks: int = 1


SOURCES = (
    Source(
        "gharchive-2015.ndjson.gz",
        ("--time=dt", "--type=type", "--user=actor", "--page-url=https://github.com/{repo}"),
        "JSONEachRow",
        "dt DateTime('UTC'), repo String, type String, actor String, commits Nullable(UInt32), "
        "action Nullable(String), age Nullable(String)",
        "actor AS user, '' AS session, type, dt AS time, concat('https://github.com/', repo) "
        "AS page, commits, action, age",
        ("commits", "action", "age"),
        "commits",
        (
            ({"field": "commits", "op": ">=", "value": 3}, "commits >= 3"),
            (
                {"field": "page_url", "op": "contains", "value": "data"},
                "position(page, 'data') > 0",
            ),
            (
                {"field": "action", "op": "!=", "value": "created"},
                "(action IS NULL OR action != 'created')",
            ),
        ),
    ),
    Source(
        "deskdrop-interactions.csv.gz",
        ("--type=eventType", "--user=personId", "--session=sessionId"),
        "CSVWithNames",
        "timestamp DateTime('UTC'), eventType String, contentId String, personId String, "
        "sessionId String, userAgent String, userRegion String, userCountry String",
        "personId AS user, sessionId AS session, eventType AS type, timestamp AS time, "
        "'' AS page, contentId, userAgent, userRegion, userCountry",
        ("contentId", "userRegion", "userCountry"),
        None,
        (
            ({"field": "userCountry", "value": "BR"}, "userCountry = 'BR'"),
            (
                {"field": "userAgent", "op": "regex", "value": "Chrome/5[0-2]"},
                "match(userAgent, 'Chrome/5[0-2]')",
            ),
            (
                {"not": {"field": "userRegion", "op": "in", "value": ["SP", "MG"]}},
                "userRegion NOT IN ('SP', 'MG')",
            ),
        ),
    ),
    Source(
        "wikipedia-edits-2015-09-12.ndjson.gz",
        ("--type=channel", "--page-url=page"),
        "JSONEachRow",
        "time DateTime64(3, 'UTC'), channel String, user String, page String, added UInt32, "
        "deleted UInt32, isRobot Bool, cityName Nullable(String), namespace String",
        "user, '' AS session, channel AS type, time, page, added, deleted, isRobot, cityName, "
        "namespace",
        ("isRobot", "cityName", "namespace"),
        "added",
        (
            ({"field": "added", "op": ">", "value": 100}, "added > 100"),
            ({"field": "isRobot", "value": True}, "isRobot"),
            ({"field": "cityName", "op": "exists", "value": True}, "cityName IS NOT NULL"),
        ),
        "toUInt64(toUnixTimestamp64Milli(time))",
        1_000,
    ),
)
