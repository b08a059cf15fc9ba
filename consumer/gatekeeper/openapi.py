"""The OpenAPI document of the entitlement port, as it stands at /openapi.json."""

from typing import Any

from schemas.entitlement import CUSTOMER_ID, MAX_REFERENCE

CUSTOMER_PATH = "/v1/customers/{customer}/entitlement"
REFERENCE_PATH = "/v1/references/{reference}/entitlement"
DOCUMENT_PATH = "/openapi.json"


def _parameter(name: str, meaning: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "description": meaning, "schema": schema}


def _error(meaning: str, *codes: str, headers: tuple[str, ...] = ()) -> dict[str, Any]:
    body = {
        "type": "object",
        "properties": {"error": {"type": "string", "enum": list(codes)}},
        "required": ["error"],
        "additionalProperties": False,
    }
    shown = {name: {"required": True, "schema": {"type": "string"}} for name in headers}
    return {
        "description": meaning,
        "headers": shown,
        "content": {"application/json": {"schema": body}},
    }


def _get(summary: str, parameter: dict[str, Any], refusal: str) -> dict[str, Any]:
    return {
        "get": {
            "operationId": f"entitlement_by_{parameter['name']}",
            "summary": summary,
            "parameters": [parameter],
            "responses": {
                "200": {
                    "description": "What may be used now; of a customer never seen, too.",
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Entitlement"}}
                    },
                },
                "400": _error("What was asked for can be nobody's id.", refusal),
                "401": _error(
                    "Tokens are set, and none of them was shown.",
                    "unauthorized",
                    headers=("WWW-Authenticate",),
                ),
                "503": _error(
                    "Neither Redis nor PostgreSQL can answer.",
                    "unavailable",
                    headers=("Retry-After",),
                ),
            },
        }
    }


def _maybe(kind: dict[str, Any], meaning: str) -> dict[str, Any]:
    return {"anyOf": [kind, {"type": "null"}], "description": meaning}


_TEXT = {"type": "string"}
_MOMENT = {"type": "string", "format": "date-time"}
_ENTITLEMENT = {
    "customer": _maybe(_TEXT, "null for a reference that no customer has"),
    "tier": {"type": "string", "description": "a tier of the plans file"},
    "entitled": {"type": "boolean", "description": "whether access is paid for, or in grace"},
    "status": _maybe(_TEXT, "of the deciding subscription; null without any"),
    "grace_until": _maybe(_MOMENT, "when access ends although unpaid"),
    "valid_until": _maybe(_MOMENT, "when the answer may change without an event"),
    "version": {"type": "integer", "minimum": 0, "description": "counts changes of the customer"},
    "source": {"type": "string", "enum": ["cache", "database"]},
}

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "hookline gatekeeper",
        "version": "1",
        "description": "What a customer may use now.",
    },
    "security": [{}, {"bearer": []}],
    "paths": {
        CUSTOMER_PATH: _get(
            "By Stripe's customer id",
            _parameter(
                "customer",
                "Stripe's id of the customer",
                {"type": "string", "pattern": f"^{CUSTOMER_ID.pattern}$"},
            ),
            "invalid_customer",
        ),
        REFERENCE_PATH: _get(
            "By the application's own id; of several customers the best answer",
            _parameter(
                "reference",
                "client_reference_id or metadata.reference, percent-encoded; printable",
                {"type": "string", "minLength": 1, "maxLength": MAX_REFERENCE},
            ),
            "invalid_reference",
        ),
    },
    "components": {
        "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        "schemas": {
            "Entitlement": {
                "type": "object",
                "properties": _ENTITLEMENT,
                "required": list(_ENTITLEMENT),
                "additionalProperties": False,
            }
        },
    },
}
