"""Stripe in small: its API over HTTP, in the state that simulated histories have led to so far.

Read only, as hookline's use of it. It pages by ten, lists an event five seconds late, and may
answer 429 or 500 at times; every request is noted. Its clock is set by the test.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import zstandard

from ops.simulator.history import History
from ops.simulator.life import Event

Json = dict[str, Any]
KEY = "rk_test_hookline"
PAGE = 10
LAG_SECONDS = 5
DAY = 24 * 3600
LISTED_SECONDS = 30 * DAY
INVOICES_KEPT = 6
ENDED = {"canceled", "incomplete_expired"}


@dataclass(frozen=True, slots=True)
class Listed:
    """An event in Stripe's list; `number` is its place in the order of all."""

    id: str
    type: str
    created: int
    number: int
    packed: bytes

    @property
    def document(self) -> Json:
        """The event."""
        return dict(json.loads(zstandard.ZstdDecompressor().decompress(self.packed)))


Selected = tuple[Mapping[str, Any], list[str], dict[str, int]]
"""What a list holds, its ids in order, and the place of each."""


@dataclass
class StripeTwin:
    """The state of an account; `tell` changes it, requests read it."""

    now: int
    faults: float = 0.0
    """The share of requests that are answered 429 or 500, never two in a row."""
    page: int = PAGE
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    undelivered: set[str] = field(default_factory=set)
    """Events that Stripe knows it could not deliver."""
    on_request: Callable[[int], None] = lambda _number: None
    forbidden: set[str] = field(default_factory=set)
    """Paths that the key may not read."""
    objects: dict[str, dict[str, bytes]] = field(default_factory=dict)
    events: list[Listed] = field(default_factory=list)
    """Those that are not too old to be listed; `told` counts all."""
    told: int = 0
    endpoints: list[Json] = field(default_factory=list)
    _invoices: dict[str, dict[str, bytes]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _random: Random = field(default_factory=lambda: Random("stripe"))  # noqa: S311 - the same faults
    _faulted: bool = False
    _selected: dict[tuple[object, ...], Selected] = field(default_factory=dict)

    def tell(self, event: Event) -> None:
        """Let happen what an event tells of, to its object and to the list of events."""
        obj = json.loads(event.body)["data"]["object"]
        with self._lock:
            self.told += 1
            if event.created > self.now - LISTED_SECONDS:
                packed = zstandard.ZstdCompressor(level=1).compress(event.body)
                self.events.append(Listed(event.id, event.type, event.created, self.told, packed))
            self._put(event.type, obj)

    def live(self, histories: Iterable[History], until: int) -> list[Event]:
        """Let everything happen that is stamped by then; return what is still to come, in order."""
        coming = []
        for history in histories:
            past, rest = split(history, until)
            for event in past:
                self.tell(event)
            coming += rest
        return coming

    def expanded(self, subscription: str) -> Json:
        """Return a subscription as it is now, with its latest invoice."""
        return self._expand(json.loads(self.objects["subscription"][subscription]))

    def listed(self, kind: str) -> list[Json]:
        """Return all objects of a kind as an export has them, newest first."""
        found = [json.loads(body) for body in reversed(self.objects[kind].values())]
        return [self._expand(obj) for obj in found] if kind == "subscription" else found

    def _put(self, kind: str, obj: Json) -> None:
        name = obj["object"]
        if kind == "customer.deleted":
            self.objects["customer"].pop(obj["id"], None)
        elif name == "invoice":
            kept = self._invoices.setdefault(subscription_of(obj), {})
            kept.pop(obj["id"], None)
            kept[obj["id"]] = json.dumps(obj).encode()
            while len(kept) > INVOICES_KEPT:
                del kept[next(iter(kept))]
        else:
            self.objects.setdefault(name, {})[obj["id"]] = json.dumps(obj).encode()

    # --- answers

    def answer(self, path: str, params: dict[str, str]) -> tuple[int, Json, dict[str, str]]:
        """Return status, document and headers of one GET."""
        with self._lock:
            number = len(self.requests)
            self.requests.append(("GET", path, params))
            fault = not self._faulted and self._random.random() < self.faults
            self._faulted = fault
        self.on_request(number)
        if fault:
            status = self._random.choice((429, 500))
            return status, {"error": {"type": "api_error", "code": "rate_limit"}}, {}
        if any(path.startswith(prefix) for prefix in self.forbidden):
            return 403, {"error": {"type": "invalid_request_error", "message": KEY}}, {}
        with self._lock:
            return *self._route(path, params), {}

    def _route(self, path: str, params: dict[str, str]) -> tuple[int, Json]:
        kinds = {
            "/v1/customers": "customer",
            "/v1/subscriptions": "subscription",
            "/v1/checkout/sessions": "checkout.session",
        }
        if path == "/v1/events":
            return self._list(lambda: self._select_events(params), path, params, _document_of)
        if path == "/v1/webhook_endpoints":
            named = {endpoint["id"]: endpoint for endpoint in self.endpoints}
            return self._list(lambda: named, path, params, dict)
        if path in kinds:
            kind = kinds[path]
            select = lambda: self._select(kind, params)  # noqa: E731 - as above
            return self._list(select, path, params, self._decode(params))
        if path.startswith("/v1/subscriptions/"):
            found = self.objects.get("subscription", {}).get(path.rpartition("/")[2])
            if found is not None:
                return 200, self._expand(json.loads(found))
        return 404, {"error": {"type": "invalid_request_error", "code": "resource_missing"}}

    def _select(self, kind: str, params: Mapping[str, str]) -> dict[str, bytes]:
        since = int(params.get("created[gte]", 0))
        everything = params.get("status") == "all"
        chosen = {}
        # Newest first, by the order in which they were first heard of.
        for name, body in reversed(self.objects.get(kind, {}).items()):
            if since or (kind == "subscription" and not everything):
                obj = json.loads(body)
                if obj["created"] < since or (not everything and obj.get("status") in ENDED):
                    continue
            chosen[name] = body
        return chosen

    def _select_events(self, params: Mapping[str, str]) -> dict[str, Listed]:
        least = max(int(params.get("created[gte]", 0)), self.now - LISTED_SECONDS)
        most = min(int(params.get("created[lte]", self.now)), self.now - LAG_SECONDS)
        chosen = [
            event
            for event in self.events
            if least <= event.created <= most
            and params.get("type", event.type) == event.type
            and (params.get("delivery_success") != "false" or event.id in self.undelivered)
        ]
        chosen.sort(key=lambda event: (event.created, event.number), reverse=True)
        return {event.id: event for event in chosen}

    def _list(
        self,
        select: Callable[[], Mapping[str, Any]],
        path: str,
        params: Mapping[str, str],
        show: Callable[[Any], Json],
    ) -> tuple[int, Json]:
        chosen, names, places = self._remember(select, path, params)
        begin = 0
        if after := params.get("starting_after"):
            if after not in chosen:
                return 404, {"error": {"type": "invalid_request_error", "code": "resource_missing"}}
            begin = places[after] + 1
        size = min(int(params.get("limit", 10)), self.page)
        some = names[begin : begin + size]
        return 200, {
            "object": "list",
            "data": [show(chosen[name]) for name in some],
            "has_more": begin + size < len(names),
            "url": "/v1/list",
        }

    def _remember(
        self, select: Callable[[], Mapping[str, Any]], path: str, params: Mapping[str, str]
    ) -> Selected:
        """Select once for all pages of a list, until something happens."""
        asked = {name: value for name, value in params.items() if name != "starting_after"}
        key = (path, str(sorted(asked.items())), self.told, self.now)
        if key not in self._selected:
            chosen = select()
            names = list(chosen)
            places = {name: place for place, name in enumerate(names)}
            self._selected = {key: (chosen, names, places)}
        return self._selected[key]

    def _decode(self, params: Mapping[str, str]) -> Callable[[bytes], Json]:
        def show(body: bytes) -> Json:
            obj = dict(json.loads(body))
            return self._expand(obj) if params.get("expand[]") else obj

        return show

    def _expand(self, obj: Json) -> Json:
        name = obj["latest_invoice"]
        if name is None:
            return obj
        found = self._invoices.get(obj["id"], {}).get(name)
        # An invoice of which no event has told yet is a draft.
        draft = {"id": name, "object": "invoice", "status": "draft", "attempted": False}
        return obj | {"latest_invoice": json.loads(found) if found else draft}


def _document_of(event: Listed) -> Json:
    return event.document


def lose(
    events: Sequence[Event], twin: StripeTwin, lost: float, seed: str
) -> tuple[list[Event], list[Event]]:
    """Return what is delivered, late, in no order and some of it twice, and what never is.

    Only what Stripe still lists is lost; of half of it Stripe knows that it was not delivered.
    """
    random = Random(f"{seed}:delivery")  # noqa: S311 - the same losses for the same seed
    listed = [e for e in events if twin.now - LISTED_SECONDS + DAY < e.created < twin.now - DAY]
    gone = random.sample(listed, int(len(listed) * lost))
    ids = {event.id for event in gone}
    twin.undelivered |= {event.id for event in gone[::2]}
    delivered = [event for event in events if event.id not in ids]
    delivered += random.sample(delivered, len(delivered) // 10)
    random.shuffle(delivered)
    return delivered, gone


def split(history: History, until: int) -> tuple[list[Event], list[Event]]:
    """Split a history into what has happened by a second, and what comes after.

    Subscription by subscription: a history tells the whole of one before the next, and an event
    may be stamped a second before the one ahead of it.
    """
    past: list[Event] = []
    coming: list[Event] = []
    begun: set[str] = set()
    for event in history.events:
        subscription = subscription_of(json.loads(event.body)["data"]["object"])
        if event.created > until or subscription in begun:
            begun |= {subscription} - {""}
            coming.append(event)
        else:
            past.append(event)
    return past, coming


def subscription_of(obj: Json) -> str:
    """Return the subscription that an object is, or is of, in either shape; "" for none."""
    if obj["object"] == "subscription":
        return str(obj["id"])
    parent = obj.get("parent") or {}
    details = parent.get("subscription_details") or {}
    return str(details.get("subscription") or obj.get("subscription") or "")


@contextmanager
def serving(twin: StripeTwin) -> Iterator[str]:
    """Serve an account's API on a loopback port while the context is open; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.headers.get("authorization") != f"Bearer {KEY}":
                self._send(401, {"error": {"type": "invalid_request_error"}}, {})
                return
            parts = urlsplit(self.path)
            self._send(*twin.answer(parts.path, dict(parse_qsl(parts.query))))

        def _refuse(self) -> None:
            twin.requests.append((self.command, self.path, {}))
            self._send(403, {"error": {"type": "invalid_request_error"}}, {})

        do_POST = do_PUT = do_PATCH = do_DELETE = _refuse  # noqa: N815 - the library's names

        def _send(self, status: int, document: Json, headers: dict[str, str]) -> None:
            content = json.dumps(document).encode()
            self.send_response(status)
            for name, value in {"content-type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(twin.now if timestamp is None else timestamp, usegmt=True)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
