"""One event's whole way through hookline's own processes on real servers."""

import json
import time
from pathlib import Path

import httpx2 as httpx
import pytest

from schemas.signature import sign
from support.load import check_outcome, histories, shuffled
from support.pipeline import SECRET, Pipeline, counted, recorded
from support.polling import eventually
from support.stripe import body, event, subscription

CAPTURED = Path(__file__).parents[3] / "shared" / "stripe-events"


def test_outcome_is_the_known_one_whatever_the_order_and_repetition(pipeline: Pipeline) -> None:
    """Shuffled and doubled deliveries leave every row and answer as it is known to be."""
    pipeline.start("ingest", "consumer-1", "consumer-2", "gatekeeper")
    known = histories(15, "a")
    events = shuffled(known, copies=2)
    assert set(pipeline.post_all(events)) == {200}
    eventually(lambda: recorded(pipeline) == len(events) // 2, what="recording all events")
    check_outcome(pipeline, known)

    def dropped() -> float:
        """Return how many deliveries were known; what Kafka showed twice itself is no delivery."""
        name = "hookline_consumer_duplicates_total"
        layers = [counted(pipeline.metrics(f"consumer-{n}"), name) for n in (1, 2)]
        return sum(sum(by.values()) - by.get('layer="position"', 0) for by in layers)

    eventually(lambda: dropped() == len(events) // 2, what="counting every duplicate")
    for name in ("ingest", "consumer-1", "consumer-2", "gatekeeper"):
        status, document = pipeline.readiness(name)
        assert (status, document["draining"]) == (200, False), document


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("forged", "wrong_signature"),
        ("altered", "wrong_signature"),
        ("old", "too_old"),
        ("future", "too_new"),
        ("missing", "missing_signature"),
    ],
)
def test_a_bad_signature_is_refused_and_counted(pipeline: Pipeline, name: str, reason: str) -> None:
    """Nothing unsigned gets in; the caller learns no reason, the operator does."""
    pipeline.start("ingest")
    content = body(event("invoice.paid", {"object": "invoice"}))
    now = int(time.time())
    headers = {
        "forged": {"stripe-signature": sign(content, "whsec_other", now)},
        "altered": {"stripe-signature": sign(content + b" ", SECRET, now)},
        "old": {"stripe-signature": sign(content, SECRET, now - 301)},
        "future": {"stripe-signature": sign(content, SECRET, now + 310)},
        "missing": {},
    }[name]
    url = pipeline.variables["HOOKLINE_INGEST_URL"] + "/webhooks/stripe"
    answer = httpx.post(url, content=content, headers=headers)
    assert (answer.status_code, answer.json()) == (400, {"error": "invalid_signature"})
    requests = counted(pipeline.metrics("ingest"), "hookline_ingest_requests_total")
    assert requests[f'answer="400",reason="{reason}"'] == 1
    log = pipeline.members["ingest"].process.log.read_text()
    assert SECRET not in log
    assert headers.get("stripe-signature", "v1=")[-64:] not in log


def test_what_is_not_for_this_deployment_is_ignored(pipeline: Pipeline) -> None:
    """The other mode, connected accounts and thin events are answered 200, and not published."""
    pipeline.start("ingest", "consumer-1")
    obj = subscription()
    ignored = {
        "other_mode": event("invoice.paid", obj, livemode=True),
        "connected_account": event("invoice.paid", obj, account="acct_1"),
        "thin_event": {"id": "evt_thin", "object": "v2.core.event", "created": "2026-01-01"},
    }
    for reason, document in ignored.items():
        answer = pipeline.post(document)
        assert (answer.status_code, answer.json()) == (
            200,
            {"status": "ignored", "reason": reason},
        )
    accepted = pipeline.post(event("customer.subscription.created", obj, id="evt_ours"))
    assert accepted.json()["status"] == "accepted"
    eventually(lambda: recorded(pipeline) > 0)
    assert pipeline.query("SELECT event_id FROM webhook_events") == [("evt_ours",)]


def test_what_cannot_be_applied_is_set_aside(pipeline: Pipeline) -> None:
    """A signed event of odd shape is answered 200, becomes a dead letter, and stops nobody."""
    pipeline.start("ingest", "consumer-1")
    odd = [
        {"id": "evt_no_data"},
        event("invoice.paid", {"object": "invoice"}, created="yesterday"),
        event("customer.subscription.updated", subscription("\0")),
        event("customer.subscription.updated", subscription("\ud800")),
    ]
    good = event("customer.subscription.created", subscription(), id="evt_good")
    assert {pipeline.post(document).status_code for document in [*odd, good]} == {200}
    eventually(lambda: recorded(pipeline) == 1)
    letters = "SELECT reason, count(*) FROM dead_letters GROUP BY reason"
    eventually(lambda: pipeline.query(letters) == [("undecodable", len(odd))])


@pytest.mark.skipif(not CAPTURED.is_dir(), reason="the captured events are not beside this clone")
def test_captured_events_arrive_with_their_customers(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every captured event is accepted or ignored, and recorded with the right customer."""
    from ops.send import prepare, read_events, send_paths  # noqa: PLC0415 - needs no server

    pipeline.start("ingest", "consumer-1", "consumer-2")
    index = json.loads((CAPTURED / "INDEX.json").read_text())
    expected = {entry["file"]: entry for entry in index if entry["kind"] != "event.data only"}
    events, skipped = read_events([CAPTURED])
    assert len(events) == len(expected) == 137
    assert len(skipped) == 19
    sent = {}
    for found in events:
        entry = expected[str(found.path.relative_to(CAPTURED))]
        fresh = prepare(found, fresh_ids=True, mode="test")
        sent[fresh.id] = entry
        answer = pipeline.post(fresh.document)
        outcome = "ignored" if entry["account"] else "accepted"
        assert (answer.status_code, answer.json()["status"]) == (200, outcome), entry["file"]
    ours = {key: e["expected_customer"] for key, e in sent.items() if not e["account"]}
    eventually(lambda: recorded(pipeline) == len(ours) == 125)
    assert dict(pipeline.query("SELECT event_id, customer_id FROM webhook_events")) == ours
    assert pipeline.query("SELECT count(*) FROM dead_letters") == [(0,)]

    # As they are, many share an id: sent twice, nothing is applied twice.
    monkeypatch.setenv("HOOKLINE_WEBHOOK_SECRETS", SECRET)
    monkeypatch.setenv("HOOKLINE_INGEST_URL", pipeline.variables["HOOKLINE_INGEST_URL"])
    ids = {e.id for e in events if not e.document.get("account")}
    counts = []
    for _ in range(2):
        assert send_paths([CAPTURED], fresh_ids=False, mode="test") == 0
        eventually(lambda: recorded(pipeline) == len(ours) + len(ids))
        counts.append(pipeline.query("SELECT count(*) FROM billing_audit"))
    assert counts[0] == counts[1]
    assert pipeline.query("SELECT count(*) FROM dead_letters") == [(0,)]
