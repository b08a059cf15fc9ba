"""Reads inside a process: the gatekeeper's class, and a plain GET over the same kind of link."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import uvloop

from consumer.gatekeeper import AsyncGatekeeper
from consumer.gatekeeper.link import open_link
from ops.bench.load import CONNECTIONS, WARM_UP_SECONDS
from ops.bench.peers.plain_key import plain_key
from ops.logs import configure

Ask = Callable[[str], Awaitable[Any]]


async def through_class(customers: list[str], seconds: float) -> dict[str, Any]:
    """Ask AsyncGatekeeper from many tasks at once; counts what came out of the cache."""
    async with AsyncGatekeeper(redis_seconds=1.0) as gatekeeper:
        return await _ask_all(gatekeeper.by_customer, customers, seconds)


async def plain(customers: list[str], seconds: float) -> dict[str, Any]:
    """GET a document of each customer over one link, from as many tasks."""
    link = await open_link(os.environ["HOOKLINE_REDIS_URL"])
    try:
        return await _ask_all(lambda one: link.call("GET", plain_key(one)), customers, seconds)
    finally:
        await link.close()


async def _ask_all(ask: Ask, customers: list[str], seconds: float) -> dict[str, Any]:
    """Ask for each once, then over and over; latencies, and how many answers Redis gave."""
    for customer in customers:
        await ask(customer)
    latencies: list[float] = []
    cached = 0
    began = time.perf_counter() + WARM_UP_SECONDS
    until = began + seconds

    async def go_on(first: int) -> None:
        nonlocal cached
        for customer in cycle(customers[first:] + customers[:first]):
            asked = time.perf_counter()
            if asked > until:
                return
            answer = await ask(customer)
            if asked >= began:
                latencies.append(time.perf_counter() - asked)
                cached += getattr(answer, "source", "cache") == "cache" and answer is not None

    async with asyncio.TaskGroup() as tasks:
        for number in range(CONNECTIONS):
            tasks.create_task(go_on(number))
    return {"latencies": latencies, "cached": cached, "seconds": seconds}


def main(kind: str, customers: str, seconds: str, outcome: str) -> None:
    """Ask for so many seconds, and write down what was answered."""
    configure("warning", "in_process")
    names = json.loads(Path(customers).read_text())
    ask = {"class": through_class, "plain": plain}[kind]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(ask(names, float(seconds)))
    Path(outcome).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
