"""What schemathesis must know to call the relay: loaded by SCHEMATHESIS_HOOKS."""

from __future__ import annotations

from typing import Any

import schemathesis

from tests.relay.api_cases import credential, prepare


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    prepare(case)


@schemathesis.auth()
class Known:
    """Brings the credential that belongs to the operation."""

    def get(self, case: Any, context: Any) -> str:
        return credential(case.operation.path)

    def set(self, case: Any, data: str, context: Any) -> None:
        if case.operation.path != "/webhook/{secret}":
            case.headers["Authorization"] = f"Bearer {data}"
