"""Every simulated customer can be explained: by the rules that decided, within 80 columns."""

import io
import json

from rich.console import Console

from consumer.billing.entitlement import entitle
from ops.explain.document import to_document
from ops.explain.explanation import explain
from ops.explain.render import render
from ops.explain.views import Question, Views
from ops.simulator.life import Pace
from property.world import END, PLANS, world
from support.billing import GRACE
from support.dossiers import at_second, dossier_of
from support.proving import Proof, examples


def test_every_history_is_explained(proof: Proof) -> None:
    """The answer is entitlement's own, and every event has its line, whenever it is asked."""
    customers = examples(400, 100)
    histories = world("explained", Pace(loops=True)).histories(customers)
    random = proof.random
    for history in proof.track(histories, customers):
        documents = [json.loads(event.body) for event in history.events]
        random.shuffle(documents)
        dossier = dossier_of(documents, PLANS)
        left_out = frozenset({random.choice(documents)["id"]})
        for question in (
            Question(at_second(END), without=left_out),
            Question(at_second(random.choice(documents)["created"]), as_of=True),
        ):
            found = explain(dossier, question, PLANS, GRACE)
            rows = Views(dossier, PLANS, GRACE).rows(question)
            version = len(dossier.events)
            assert found.answer == entitle("cus_1", rows, question.at, PLANS, version=version)
            assert question.as_of or found.warnings == ()
            assert len(found.timeline.entries) + found.timeline.later == len(dossier.events)
            assert all(ground.sentence for one in found.standings for ground in one.grounds)
            json.dumps(to_document(found))
            out = io.StringIO()
            render(Console(file=out, width=80, highlight=False, markup=False), found)
            assert max(map(len, out.getvalue().splitlines())) <= 80
            proof.count(explanations=1)
