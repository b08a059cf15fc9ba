"""The read side: what a customer may use now, for applications that import it and over HTTP."""

from consumer.gatekeeper.client import AsyncGatekeeper, Gatekeeper
from consumer.gatekeeper.primary import Unreadable
from consumer.gatekeeper.reader import Malformed
from schemas.entitlement import Entitlement

__all__ = ["AsyncGatekeeper", "Entitlement", "Gatekeeper", "Malformed", "Unreadable"]
