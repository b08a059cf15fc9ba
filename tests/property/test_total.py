"""The core never raises, whatever an event holds, and asks nothing of the world around it."""

import ast
import copy
import json
import random as world_random
import socket
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

import consumer.billing
from consumer.billing.facts import NO_FACTS, FactSet, decode_facts, encode_facts, texts_of
from consumer.billing.handlers import read_event
from consumer.billing.merge import merge, prune
from consumer.billing.projection import project
from property.world import bodies
from schemas.stripe_event import BadEvent, check_storable, decode_event, decode_route
from support.billing import GRACE, PLANS
from support.proving import Proof, examples
from support.stripe import Json, with_all_fields

JUNK: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 10**40, 253_402_300_799, "", "x", "\0", "\ud800", [], {}, [[]],
    [None], {"id": None}, {"id": {}}, {"id": "x"}, {"data": None}, {"data": [7, None, {}, "x"]},
    ["invoice"], "canceled", "subscription",
)  # fmt: skip
CORE = Path(str(consumer.billing.__file__)).parent
ALLOWED_MODULES = {
    "collections", "collections.abc", "dataclasses", "datetime", "enum", "typing", "msgspec",
    "msgspec.structs", "schemas.entitlement", "schemas.plans", "schemas.stripe_event",
}  # fmt: skip
CLOCKS = {"now", "utcnow", "today"}


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every place in a document: what holds it, and its key there."""
    found: list[tuple[Any, Any]] = []
    pending = [value]
    while pending:
        holder = pending.pop()
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        found += [(holder, key) for key in keys]
        pending += [holder[key] for key in keys if isinstance(holder[key], dict | list)]
    return found


def mutate(document: Json, random: Random) -> bytes:
    """Return an event with one to four of its places filled with junk, or gone."""
    changed = json.loads(json.dumps(document))
    for _ in range(random.randint(1, 4)):
        holder, key = random.choice(places(changed))
        if isinstance(holder, dict) and random.random() < 0.3:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(random.choice(JUNK))
        if not changed:
            break
    return json.dumps(changed).encode()


def test_mutated_events_never_raise(proof: Proof) -> None:
    """An event with odd, missing or null fields is set aside or read; nothing else raises."""
    random, mutations = proof.random, examples(20_000, 10_000)
    events = [json.loads(body) for body in bodies(40)]
    outcomes = {"facts": 0, "none": 0, "undecodable": 0}
    for _ in proof.track(range(mutations), mutations):
        body = mutate(random.choice(events), random)
        outcomes[read_whole(body)] += 1
        proof.count(mutated_payloads=1)
    assert all(count > 50 for count in outcomes.values()), outcomes


def read_whole(body: bytes) -> str:
    """Take one body through the whole core, in the consumer's order."""
    try:
        decode_route(body)
        event = decode_event(body)
        reading = read_event(event)
        check_storable(reading.subscription, reading.reference, *texts_of(reading.fact))
    except BadEvent:
        return "undecodable"
    assert (reading.fact is None) == (reading.why_none is not None)
    assert reading == read_event(with_all_fields(event, body))
    if reading.fact is None:
        return "none"
    facts = prune(frozenset({reading.fact}))
    assert decode_facts(encode_facts(facts)) == facts
    assert project(facts, PLANS, GRACE).row.status
    return "facts"


def test_bytes_that_are_no_event_never_raise(proof: Proof) -> None:
    """Cut, doubled or overwritten bytes are refused in one way, or read."""
    random, mutations = proof.random, examples(100_000, 10_000)
    originals = bodies(3)
    for _ in proof.track(range(mutations), mutations):
        body = bytearray(random.choice(originals))
        for _ in range(random.randint(1, 3)):
            start = random.randrange(len(body))
            body[start : start + random.randint(0, 30)] = random.randbytes(random.randint(0, 3))
            if not body:
                break
        assert read_whole(bytes(body)) in {"facts", "none", "undecodable"}
        proof.count(broken_bodies=1)


def test_core_asks_no_clock_random_or_network(
    proof: Proof, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Extracting, merging and projecting work where the clock, chance and sockets are forbidden."""

    def forbid(*_: object, **__: object) -> None:
        pytest.fail("the core asked the world around it")

    known = bodies(examples(2_000, 20))
    for module, name in (
        (time, "time"),
        (time, "time_ns"),
        (world_random, "random"),
        (socket, "socket"),
    ):
        monkeypatch.setattr(module, name, forbid)
    outcomes = set()
    sets: dict[str, FactSet] = {}
    for body in proof.track(known, len(known)):
        outcomes.add(read_whole(body))
        reading = read_event(decode_event(body))
        if reading.subscription is not None and reading.fact is not None:
            merged = merge(sets.get(reading.subscription, NO_FACTS), frozenset({reading.fact}))
            sets[reading.subscription] = merged
            project(merged, PLANS, GRACE)
        proof.count(events=1)
    monkeypatch.undo()
    assert outcomes == {"facts", "none"}
    assert sets


@pytest.mark.parametrize("path", sorted(CORE.glob("*.py")), ids=lambda path: path.stem)
def test_core_imports_nothing_impure(path: Path) -> None:
    """The core imports only what is pure, and never asks what time it is."""
    imported: set[str] = set()
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=aliases):
                imported |= {alias.name for alias in aliases}
            case ast.ImportFrom(module=str(module)):
                imported.add(module)
            case ast.Attribute(attr=name) | ast.Call(func=ast.Name(id=name)):
                names.add(name)
            case _:
                pass
    outside = {name for name in imported if not name.startswith("consumer.billing")}
    assert outside <= ALLOWED_MODULES
    assert not names & (CLOCKS | {"open", "print", "input"})
