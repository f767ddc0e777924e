"""How soon after its acknowledgement an event is in the live answer to a funnel."""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import quote

FIRST, LAST = "page_view", "purchase"
PATIENCE_SECONDS = 60.0


def shown_after(address: str, name: str, users: int, pause_seconds: float) -> list[float]:
    """The seconds from the acknowledgement of an event to the revision that has it, ascending.

    Each user, called by the name and a number, goes through the whole funnel, which is over all
    that the server has, and is waited for before the next one comes, `pause_seconds` later.
    """
    revisions: queue.Queue[tuple[float, int]] = queue.Queue()
    stream = HTTPConnection(address)
    question = json.dumps({"steps": [{"event_type": FIRST}, {"event_type": LAST}]})
    target = f"/v1/analytics/funnel?question={quote(question)}"
    stream.request("GET", target, headers={"Accept": "text/event-stream"})
    reading = threading.Thread(target=_read, args=(stream.getresponse(), revisions), daemon=True)
    reading.start()
    _, known = revisions.get(timeout=PATIENCE_SECONDS)
    sending = HTTPConnection(address)
    waited = []
    for number in range(users):
        time.sleep(pause_seconds)
        user = f"{name}-{number}"
        acknowledged = _send(sending, user)
        shown, now = revisions.get(timeout=PATIENCE_SECONDS)
        while now <= known + number:
            shown, now = revisions.get(timeout=PATIENCE_SECONDS)
        waited.append(max(shown - acknowledged, 0.0))
    if stream.sock is not None:
        stream.sock.shutdown(socket.SHUT_RDWR)
    reading.join(PATIENCE_SECONDS)
    return sorted(waited)


def _read(response: HTTPResponse, revisions: queue.Queue[tuple[float, int]]) -> None:
    if response.status != 200:
        raise RuntimeError(f"status {response.status}: {response.read()[:500]!r}")
    try:
        for line in response:
            if line.startswith(b"data: "):
                answer = json.loads(line[len(b"data: ") :])
                if "steps" not in answer:
                    raise RuntimeError(f"the stream ended: {answer}")
                revisions.put((time.perf_counter(), answer["steps"][-1]["users"]))
    except (OSError, HTTPException):
        return  # The one who measures has enough and shut the connection.


def _send(connection: HTTPConnection, user: str) -> float:
    now = time.time()
    events = [
        {"id": f"{user}-{kind}", "user_id": user, "event_type": kind, "timestamp": when}
        for kind, when in ((FIRST, now - 1), (LAST, now))
    ]
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/events/batch", json.dumps(events), headers)
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise RuntimeError(f"status {response.status}: {body[:500]!r}")
    return time.perf_counter()
