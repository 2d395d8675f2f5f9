"""The relay described by OpenAPI 3.1, from the same tables that the code obeys."""

from __future__ import annotations

from typing import Any

from common.exits import DISTANCE_PATTERN, MOST_TARGETS
from common.fields import ID_LIMIT, MOST_WARNINGS, NOTE_LIMIT, SECRET_LIMIT, STRATEGY_NAME_LIMIT
from common.values import NUMBER_PATTERN
from common.version import VERSION
from relay import delivery
from relay.pending.base import MAX_LEASE_SECONDS, MAX_RETRY_SECONDS
from relay.problems import PROBLEMS

Schema = dict[str, Any]
_JSON, _PROBLEM = "application/json", "application/problem+json"


def _object(properties: Schema, required: list[str], closed: bool = True, **more: Any) -> Schema:
    found = {"type": "object", "properties": properties, "required": required, **more}
    return {**found, "additionalProperties": False} if closed else found


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_NUMBER: Schema = {
    "description": "A JSON number or decimal text: at most 12 digits before and 20 after the point, no exponent.",
    "oneOf": [
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 10**12},
        {"type": "string", "pattern": f"^(?=.*[1-9]){NUMBER_PATTERN}$"},
    ],
}
_SIZE: Schema = {
    "description": "Like other numbers, but may be 0.",
    "oneOf": [
        {"type": "number", "minimum": 0, "exclusiveMaximum": 10**12},
        {"type": "string", "pattern": f"^{NUMBER_PATTERN}$"},
    ],
}
_DISTANCE: Schema = {
    "type": "string", "pattern": f"^(?=.*[1-9]){DISTANCE_PATTERN}$", "examples": ["1.5%", "25 ticks", "2.5 points"],
    "description": "A distance with its unit: percent, the contract's ticks, or points, which are in price.",
}  # fmt: skip
_EXIT: Schema = {
    "description": "A price, or a distance: from the fill; with protect from the entry price.",
    "oneOf": [*_NUMBER["oneOf"], _DISTANCE],
}
_EXIT_OR_ENTRY: Schema = {
    "description": "A price, a distance from the entry price, or the entry price itself.",
    "oneOf": [*_EXIT["oneOf"], {"const": "entry"}],
}
_PERCENT: Schema = {
    "description": "Of the filled size; all of them add up to 100 at most, what remains runs under its own stop.",
    "oneOf": [
        {"type": "number", "exclusiveMinimum": 0, "maximum": 100},
        {"type": "string", "pattern": f"^(?=.*[1-9]){NUMBER_PATTERN} *(%|percent)?$"},
    ],
}
_TRUTH: Schema = {"enum": [True, False, "true", "false"]}
_PRINTABLE = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"
_NO_CONTROLS = "^[^\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f]*$"  # as in every text, see common.strict_json
_POSITION: Schema = {"enum": ["long", "short", "flat"]}
_COMMON: Schema = {
    "symbol": {
        "type": "string", "examples": ["EURUSD", "NASDAQ:AAPL", "BRK.B"],
        "pattern": "^ *([A-Za-z0-9_]{1,20}:)?[A-Za-z0-9][A-Za-z0-9./_!&-]{0,29} *$",
    },
    "id": {
        "type": "string", "minLength": 1, "maxLength": ID_LIMIT, "pattern": _PRINTABLE,
        "description": "The sender's duplicate key, good for 30 days.",
    },
    "note": {
        "type": "string", "maxLength": NOTE_LIMIT, "pattern": _NO_CONTROLS, "description": "Shown with the signal.",
    },
    "strategy_name": {
        "type": "string", "maxLength": STRATEGY_NAME_LIMIT, "pattern": _NO_CONTROLS,
        "description": "Kept and shown; each strategy in a symbol has its own chain of alerts.",
    },
    "price": {"description": "What the sender saw. Kept; nothing refuses an alert for it."},
    "time": {
        "description": "When the sender saw it: UTC like 2026-11-23T09:15:00Z, or seconds or milliseconds since 1970. Nothing "
        "refuses an alert for it. It tells two signals apart, and which of two alerts of a strategy is the older.",
    },
    "secret": {
        "type": "string", "maxLength": SECRET_LIMIT, "pattern": _NO_CONTROLS, "format": "password", "writeOnly": True,
    },
}  # fmt: skip


def _signal(action: str, properties: Schema, required: list[str]) -> Schema:
    fields = {"action": {"const": action}, **_COMMON, **properties}
    return _object(fields, ["action", "symbol", *required])


def _exit(action: str, properties: Schema, required: list[str]) -> Schema:
    """Nothing refuses an exit that plays no part in it: what is not needed may be anything, and is left out with a warning."""
    fields = {"action": {"const": action}, "symbol": _COMMON["symbol"], **properties}
    more = "Any other field may be there; one that cannot be read is left out, and reported in `warnings`."
    return _object(fields, ["action", "symbol", *required], closed=False, description=more)


_EXITS: Schema = {
    "tp": _EXIT, "sl": _EXIT,
    "trail": {**_DISTANCE, "description": "A stop that follows the market at this distance; sl is where it begins."},
    "targets": {
        "type": "array", "minItems": 1, "maxItems": MOST_TARGETS,
        "items": _object({"tp": _EXIT, "percent": _PERCENT}, ["tp", "percent"]), "description": "Instead of tp.",
    },
    "breakeven_after_target": {
        **_TRUTH, "description": "The first target moves the stop to the entry price. Needs targets, and sl or trail.",
    },
}  # fmt: skip
_PARTS: Schema = {
    "quantity": {"description": "Closes this much of the trade, all of it at most. Or percent, not both."},
    "percent": {"description": "Closes this share of the trade, at most 100. Unreadable, all of it is closed."},
}
_LOOSEN: Schema = {"description": "True: the stop may be moved away from the market."}
_ID = {"type": "string", "pattern": "^[0-9A-Z]{26}$"}
_TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": delivery.ID_LIMIT, "pattern": _NO_CONTROLS}
_SCHEMAS: dict[str, Schema] = {
    "Open": _signal(
        "open", {"side": {"enum": ["buy", "sell"]}, "quantity": _NUMBER, **_EXITS}, ["side", "quantity"],
    ),
    "Close": _exit("close", _PARTS, []),
    "Protect": _exit("protect", {"sl": _EXIT_OR_ENTRY, "loosen": _LOOSEN}, ["sl"]),
    "ProtectTarget": _exit("protect", {"tp": _EXIT_OR_ENTRY, "sl": False, "loosen": _LOOSEN}, ["tp"]),
    "Reset": _exit("reset", {}, []),
    "StrategyFlat": _exit("strategy", {"market_position": {"const": "flat"}}, ["market_position"]),
    "Strategy": _signal(
        "strategy",
        {
            "market_position": {"enum": ["long", "short"]}, "market_position_size": _SIZE, "prev_market_position": _POSITION,
            "prev_market_position_size": _SIZE, **_EXITS,
        },
        ["market_position", "market_position_size"],
    ),
    "Alert": {
        "oneOf": [
            _ref(name)
            for name in ("Open", "Close", "Protect", "ProtectTarget", "Reset", "Strategy", "StrategyFlat")
        ],
    },
    "Warnings": {
        "type": "array", "maxItems": MOST_WARNINGS,
        "items": _object({"field": {"type": "string"}, "message": {"type": "string"}}, ["field", "message"]),
        "description": "What of the alert was left out, since it plays no part in it.",
    },
    "Queued": _object({"status": {"const": "queued"}, "id": _ID, "warnings": _ref("Warnings")}, ["status", "id"]),
    "Duplicate": _object({"status": {"const": "duplicate"}, "id": _ID, "warnings": _ref("Warnings")}, ["status", "id"]),
    "Poll": _object(
        {
            "limit": {"type": "integer", "minimum": 1, "maximum": delivery.MOST_LEASED, "default": 10},
            "wait_seconds": {
                "type": "number", "minimum": 0, "maximum": delivery.LONGEST_WAIT_SECONDS, "default": 20,
                "description": "The answer may come sooner.",
            },
            "lease_seconds": {"type": "number", "minimum": 1, "maximum": MAX_LEASE_SECONDS, "default": 30},
            "consumer": {
                "type": "string", "pattern": f"^{delivery.CONSUMER_PATTERN}$",
                "description": "The executor's own id; it then owns its leases, and another executor is refused.",
            },
            "refuses_entries": {
                "type": "boolean", "default": False,
                "description": "It refuses entries by itself while the answer's mode is close-only: it is given all signals "
                "then, so that a reversal still closes. Counts with a consumer only.",
            },
        },
        [],
    ),
    "Leased": _object(
        {
            "id": _ID, "lease": _TEXT, "attempt": {"type": "integer", "minimum": 1},
            "received_at": {"type": "string", "format": "date-time"},
            "headers": _object(
                {name: {"type": "string"} for name in ("webhook-id", "webhook-timestamp", "webhook-signature")},
                ["webhook-id", "webhook-timestamp", "webhook-signature"],
            ),
            "payload": {"type": "string", "description": "The exact text that is signed."},
        },
        ["id", "lease", "attempt", "received_at", "headers", "payload"],
    ),
    "Notice": _object(
        {name: {"type": "string"} for name in ("id", "kind", "symbol", "text", "at")}, ["id", "kind", "symbol", "text", "at"]
    ),
    "Leases": _object(
        {
            "signals": {"type": "array", "items": _ref("Leased")},
            "notices": {"type": "array", "items": _ref("Notice"), "description": "Messages for the owner."},
            "mode": {
                "enum": ["paused", "close-only", "unknown"],
                "description": "Absent while the queue is open; unknown where it was not looked up.",
            },
        },
        ["signals"],
    ),
    "Acks": _object(
        {
            "acks": {
                "type": "array", "maxItems": delivery.MOST_ACKS,
                "items": _object({"id": _TEXT, "lease": _TEXT}, ["id", "lease"]),
            },
            "notices": {
                "type": "array", "maxItems": delivery.MOST_ACKS,
                "items": {"type": "string", "pattern": f"^{delivery.NOTICE_ID_PATTERN}$"},
                "description": "The ids of the notices that the executor has committed.",
            },
        },
        ["acks"],
    ),
    "Acked": _object(
        {name: {"type": "array", "items": {"type": "string"}} for name in ("acked", "stale")}, ["acked", "stale"]
    ),
    "Nack": _object(
        {
            "id": _TEXT, "lease": _TEXT,
            "reason": {"type": "string", "minLength": 1, "maxLength": delivery.REASON_LIMIT, "pattern": _NO_CONTROLS},
            "retry_seconds": {"type": "number", "minimum": 0, "maximum": MAX_RETRY_SECONDS, "default": 0},
        },
        ["id", "lease"],
    ),
    "Returned": _object({"status": {"const": "returned"}, "id": {"type": "string"}}, ["status", "id"]),
    "Status": _object(
        {
            "signing_keys": {"type": "array", "items": {"type": "string", "pattern": "^[0-9a-f]{8}$"}},
            "queue": {"anyOf": [{"type": "null"}, _ref("Queue")], "description": "null while it cannot be reached"},
        },
        ["signing_keys", "queue"],
    ),
    "Queue": _object(
        {
            "mode": {"enum": ["open", "paused", "close-only"]},
            **{name: {"type": "integer", "minimum": 0} for name in ("depth", "dead")},
            **{name: {"type": ["string", "null"], "format": "date-time"} for name in ("oldest_at", "last_poll_at")},
        },
        ["mode", "depth", "dead", "oldest_at", "last_poll_at"],
    ),
    "Proof": _object(
        {name: {"type": "array", "items": {"type": "string"}} for name in ("signing_keys", "executor_tokens")},
        ["signing_keys", "executor_tokens"],
    ),
    "Health": _object({"status": {"const": "ok"}}, ["status"]),
    "Ready": _object(
        {
            "status": {"const": "ready"},
            "queue": _object(
                {name: {"type": "string"} for name in ("engine", "wakeups", "detail")},
                ["engine", "wakeups", "detail"],
            ),
            "mode": {"enum": ["open", "paused", "close-only"]},
            "executor": {"enum": ["polling", "silent", "never"]},
            "alerts_missed": {"type": "integer", "minimum": 0},
        },
        ["status", "queue", "mode", "executor", "alerts_missed"],
    ),
    "Problem": _object(
        {
            "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
            "code": {"enum": sorted(PROBLEMS)}, "detail": {"type": "string"},
            "problems": {
                "type": "array",
                "items": _object({"field": {"type": "string"}, "message": {"type": "string"}}, ["field", "message"]),
            },
        },
        ["type", "title", "status", "code", "detail"],
    ),
}  # fmt: skip


def _answers(answers: dict[int, str], refusals: list[int]) -> Schema:
    """Return the responses of an operation: what it answers, and the statuses of its refusals."""
    found = {
        str(status): {"description": name, "content": {_JSON: {"schema": _ref(name)}}}
        for status, name in answers.items()
    }
    for status in refusals:
        codes = [code for code, kind in PROBLEMS.items() if kind.status == status]
        description = "; ".join(f"`{code}`: {PROBLEMS[code].title}" for code in codes)
        found[str(status)] = {"description": description, "content": {_PROBLEM: {"schema": _ref("Problem")}}}
    return found


def _operation(summary: str, body: str | None, responses: Schema, security: list[Schema]) -> Schema:
    found: Schema = {"summary": summary, "responses": responses, "security": security}
    if body:
        found["requestBody"] = {"required": True, "content": {_JSON: {"schema": _ref(body)}}}
    return found


_SENDER: list[Schema] = [{}, {"bearer": []}, {"signature": []}]  # {}: the secret is in the body
_EXECUTOR: list[Schema] = [{"executorToken": []}]
_POSTED = [400, 401, 403, 409, 411, 413, 429, 503]
_CALLED = [400, 401, 411, 413, 429, 503]
_INTAKE = _answers({202: "Queued", 200: "Duplicate"}, _POSTED)
_PATH_SECRET = {
    "name": "secret", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1},
    "description": "For senders that can change neither body nor headers.",
}  # fmt: skip

_CHALLENGE = {
    "name": "challenge", "in": "path", "required": True,
    "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    "description": "Any 16 bytes, new each time.",
}  # fmt: skip


def _paths() -> Schema:
    bearer = _EXECUTOR
    return {
        "/webhook": {"post": _operation("Post an alert", "Alert", _INTAKE, _SENDER)},
        "/webhook/{secret}": {
            "parameters": [_PATH_SECRET],
            "post": _operation("Post an alert, the secret in the path", "Alert", _INTAKE, []),
        },
        "/v1/lease": {"post": _operation("Fetch signals", "Poll", _answers({200: "Leases"}, [*_CALLED, 409]), bearer)},
        "/v1/ack": {"post": _operation("Finish signals", "Acks", _answers({200: "Acked"}, _CALLED), bearer)},
        "/v1/nack": {
            "post": _operation("Give a signal back", "Nack", _answers({200: "Returned"}, [*_CALLED, 409]), bearer)
        },
        "/v1/status": {
            "get": _operation(
                "Key fingerprints, and the queue", None, _answers({200: "Status"}, [401, 429]), bearer
            )
        },
        "/v1/proof/{challenge}": {
            "parameters": [_CHALLENGE],
            "get": _operation("Proof of its secrets, without them", None, _answers({200: "Proof"}, [404]), []),
        },
        "/healthz": {"get": _operation("Is the process alive", None, _answers({200: "Health"}, []), [])},
        "/readyz": {"get": _operation("Can it accept alerts", None, _answers({200: "Ready"}, [503]), [])},
        "/metrics": {
            "get": _operation("Numbers for Prometheus", None, {
                "200": {"description": "text format", "content": {"text/plain": {"schema": {"type": "string"}}}},
                **_answers({}, [401, 429]),
            }, bearer)
        },
        "/openapi.json": {"get": _operation("This description", None, {
            "200": {"description": "OpenAPI 3.1", "content": {_JSON: {"schema": {"type": "object"}}}}
        }, [])},
    }  # fmt: skip


DOCUMENT: Schema = {
    "openapi": "3.1.0",
    "info": {
        "title": "Signal relay",
        "version": VERSION,
        "description": "Alerts in, signed signals out. Every refusal is a problem (RFC 9457) with a stable code.",
    },
    "paths": _paths(),
    "components": {
        "schemas": _SCHEMAS,
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer", "description": "One of RELAY_WEBHOOK_SECRETS."},
            "executorToken": {
                "type": "http", "scheme": "bearer", "description": "One of RELAY_EXECUTOR_TOKENS.",
            },
            "signature": {
                "type": "apiKey", "in": "header", "name": "webhook-signature",
                "description": "Standard Webhooks v1, with webhook-id and webhook-timestamp.",
            },
        },
    },
}  # fmt: skip
