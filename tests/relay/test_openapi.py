"""/openapi.json is true: the real server answers as it says, to what it allows and to what it forbids."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from common.errors import QueueFull, QueueUnavailable
from relay.intake import MAX_BODY_BYTES
from relay.openapi import DOCUMENT
from relay.problems import PROBLEMS
from tests.common import test_wishes as wishes
from tests.relay.api_cases import credential, prepare
from tests.relay.examples import AUTH, EXECUTOR, Web, signal
from tests.relay.process import ROOT, RelayProcess
from tests.relay.test_problems import ASKED, broken

# operation -> what the document says of it
OPERATIONS = {
    f"{method.upper()} {path}": said
    for path, methods in DOCUMENT["paths"].items()
    for method, said in methods.items()
    if method != "parameters"
}
# A refusal of what the description allows; it cannot say these.
BEYOND_SCHEMA = re.compile(
    "needs (tp|target .) (above|below) sl|no price is below zero|cannot be there together with|must add up to 100"
    "|two targets at|leaves nothing|needs a stop that it can move|must stand apart|must be at most 100|was not filled in"
    "|without sign or exponent|printable characters|must be greater than 0 when market_position|must not contain the secret"
    "|contains a control character|JSON is nested deeper"
)


@pytest.fixture(scope="module")
def operations() -> dict[str, Any]:
    """What schemathesis makes of each operation."""
    import schemathesis  # here: every process that collects tests would wait for it

    schema = schemathesis.openapi.from_dict(DOCUMENT)
    schema.config.generation.update(with_security_parameters=False)  # the credential is ours, the rest is theirs
    found = [each.ok() for each in schema.get_all_operations()]
    return {f"{each.method.upper()} {each.path}": each for each in found}


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    """A relay behind a proxy: so that each request comes from an address of its own."""
    found = RelayProcess(tmp_path_factory.mktemp("api"), "--proxy-hops", "1")
    yield found
    assert found.stop() == 0 and "Traceback" not in found.log and "request_failed" not in found.log


def test_the_server_gives_the_description_that_is_tested(relay: RelayProcess) -> None:
    assert requests.get(f"{relay.url}/openapi.json", timeout=30).json() == DOCUMENT


@pytest.fixture(scope="module")
def described() -> Any:
    """What the document says of an alert."""
    import jsonschema  # here: see `operations`

    return jsonschema.Draft202012Validator({"$ref": "#/components/schemas/Alert", "components": DOCUMENT["components"]})


@pytest.mark.parametrize("fields, field, words", wishes.REFUSED.values(), ids=wishes.REFUSED.keys())
def test_a_wish_that_is_refused_is_forbidden_or_beyond_the_description(
    described: Any, fields: Any, field: str, words: str
) -> None:
    (problem,) = [message for name, message in wishes.problems(fields).items() if name == field]
    assert described.is_valid(fields) is False or BEYOND_SCHEMA.search(problem)


@given(signal=wishes.SIGNALS)
def test_every_wish_in_its_canonical_form_is_allowed(described: Any, signal: Any) -> None:
    described.validate(signal.data())


def call(relay: RelayProcess, case: Any) -> Any:
    prepare(case)
    if "secret" not in (case.path_parameters or {}):
        case.headers["Authorization"] = f"Bearer {credential(case.operation.path)}"
    return case.call(base_url=relay.url)


def judged(operation: Any, mode: str, judge: Callable[[Any, Any], None]) -> Callable[[RelayProcess], None]:
    """Return a test: six requests of an operation, their answers true to the description, and right for `judge`."""
    from schemathesis import GenerationMode

    @settings(
        max_examples=6, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None,
        phases=[Phase.generate],
    )  # fmt: skip
    @given(data=st.data())
    def run(relay: RelayProcess, data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy(generation_mode=GenerationMode(mode)))
        answer = call(relay, case)
        operation.validate_response(answer)
        judge(case, answer)

    return run


def accepted(case: Any, answer: Any) -> None:
    """What the description allows is taken, or refused for something that it cannot say."""
    assert answer.status_code in (200, 202, 400, 409, 413), answer.text
    if answer.status_code == 400:
        assert all(BEYOND_SCHEMA.search(each["message"]) for each in answer.json()["problems"]), (
            case.body,
            answer.text,
        )


def refused(case: Any, answer: Any) -> None:
    """What the description forbids is refused: no such path or method, or a list of what is wrong."""
    assert answer.status_code in (400, 401, 404, 405, 409, 413), (case.body, answer.text)


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_allowed_is_taken(relay: RelayProcess, operations: dict[str, Any], name: str) -> None:
    judged(operations[name], "positive", accepted)(relay)


@pytest.mark.parametrize("name", [name for name, said in OPERATIONS.items() if "requestBody" in said])
def test_what_is_forbidden_is_refused(relay: RelayProcess, operations: dict[str, Any], name: str) -> None:
    judged(operations[name], "negative", refused)(relay)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_all_phases_of_schemathesis_find_nothing(relay: RelayProcess) -> None:
    """Examples, coverage of every constraint, fuzzing and sequences: about 1,500 requests."""
    program = Path(sys.executable).with_name("schemathesis")
    words = ["run", f"{relay.url}/openapi.json", "--max-examples", "100", "--seed", "1", "--no-color"]
    config = ROOT / "tests/relay/schemathesis.toml"
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.relay.api_hooks", "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [program, f"--config-file={config}", *words],
        cwd=relay.directory, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr


# --- every documented answer, brought about ---------------------------------------------------------


def sent(web: Web, path: str, **more: Any) -> Any:
    return web.post(path, signal(**more), {} if "/" in path[1:] else AUTH)


def twice(web: Web, path: str, **second: Any) -> Any:
    sent(web, path, id="x")
    return sent(web, path, id="x", **second)


def filtered(path: Path) -> Web:
    return Web(path, allowed_addresses=("10.0.0.0/8",), proxy_hops=0)


def guessed(web: Web, ask: Callable[[], Any]) -> Any:
    return [ask() for _ in range(61)][-1]


def senders(path: str, wrong: str) -> dict[str, Callable[[Path], Any]]:
    """Return how each answer of a sender's path comes about; `wrong` is the path without a right secret."""
    return {
        "202": lambda p: sent(Web(p), path),
        "200": lambda p: twice(Web(p), path),
        "400": lambda p: sent(Web(p), path, side="up"),
        "401": lambda p: Web(p).post(wrong, signal(), {}),
        "403": lambda p: sent(filtered(p), path),
        "409": lambda p: twice(Web(p), path, side="sell"),
        "411": lambda p: Web(p)._client.open(path, method="POST", headers=AUTH),
        "413": lambda p: Web(p).post(path, b" " * (MAX_BODY_BYTES + 1)),
        "429": lambda p: guessed(web := Web(p), lambda: web.post(wrong, signal(), {})),
        "503": lambda p: sent(broken(p, QueueFull("full")), path),
    }


def executors(name: str, good: dict[str, Any], bad: dict[str, Any]) -> dict[str, Callable[[Path], Any]]:
    path = f"/v1/{name}"
    return {
        "200": lambda p: Web(p).call(name, **good),
        "400": lambda p: Web(p).call(name, **bad),
        "401": lambda p: Web(p).post(path, good, {}),
        "411": lambda p: Web(p)._client.open(path, method="POST", headers=EXECUTOR),
        "413": lambda p: Web(p).post(path, b" " * (MAX_BODY_BYTES + 1), EXECUTOR),
        "429": lambda p: guessed(web := Web(p), lambda: web.post(path, good, {})),
        "503": lambda p: broken(p, QueueUnavailable("gone"), ASKED[name]).call(name, **good),
    }


def leased(web: Web) -> dict[str, str]:
    web.send()
    (found,) = web.lease()
    return {"id": found["id"], "lease": found["lease"]}


def watched(path: str, headers: dict[str, str], closed: bool) -> dict[str, Callable[[Path], Any]]:
    found: dict[str, Callable[[Path], Any]] = {"200": lambda p: Web(p).get(path, headers)}
    if closed:
        found["401"] = lambda p: Web(p).get(path)
        found["429"] = lambda p: guessed(web := Web(p), lambda: web.get(path))
    return found


# operation -> status -> how it is brought about
ANSWERS: dict[str, dict[str, Callable[[Path], Any]]] = {
    "POST /webhook": senders("/webhook", "/webhook"),
    "POST /webhook/{secret}": senders(f"/webhook/{credential('/webhook')}", "/webhook/wrong"),
    "POST /v1/lease": {
        **executors("lease", {"wait_seconds": 0}, {"limit": 0}),
        "200": lambda p: (web := Web(p)).send() and web.call("lease", wait_seconds=0),
        "409": lambda p: (
            (web := Web(p)).call("lease", wait_seconds=0, consumer="home")
            and web.call("lease", wait_seconds=0, consumer="laptop")
        ),
    },
    "POST /v1/ack": {
        **executors("ack", {"acks": []}, {}),
        "200": lambda p: (web := Web(p)).call("ack", acks=[leased(web), {"id": "x", "lease": "y"}]),
    },
    "POST /v1/nack": {
        **executors("nack", {"id": "x", "lease": "y"}, {}),
        "200": lambda p: (web := Web(p)).call("nack", **leased(web)),
        "409": lambda p: Web(p).call("nack", id="x", lease="y"),
    },
    "GET /v1/status": watched("/v1/status", EXECUTOR, closed=True),
    "GET /metrics": watched("/metrics", EXECUTOR, closed=True),
    "GET /v1/proof/{challenge}": {
        "200": lambda p: Web(p).get("/v1/proof/" + "0" * 32),
        "404": lambda p: Web(p).get("/v1/proof/x"),
    },
    "GET /healthz": watched("/healthz", {}, closed=False),
    "GET /openapi.json": watched("/openapi.json", {}, closed=False),
    "GET /readyz": {
        **watched("/readyz", {}, closed=False),
        "503": lambda p: broken(p, QueueUnavailable("gone"), "ready").get("/readyz"),
    },
}


def test_schemathesis_knows_every_operation(operations: dict[str, Any]) -> None:
    assert {name: bool(each.body) for name, each in operations.items()} == {
        name: "requestBody" in said for name, said in OPERATIONS.items()
    }


def test_every_documented_answer_is_brought_about() -> None:
    documented = {name: {*said["responses"]} for name, said in OPERATIONS.items()}
    assert documented == {name: {*answers} for name, answers in ANSWERS.items()}


@pytest.mark.parametrize("name, status", [(name, status) for name, each in ANSWERS.items() for status in each])
def test_the_answer_has_the_documented_form(tmp_path: Path, name: str, status: str) -> None:
    import jsonschema  # here: see `operations`

    answer = ANSWERS[name][status](tmp_path)
    assert str(answer.status_code) == status, answer.text
    ((kind, content),) = OPERATIONS[name]["responses"][status]["content"].items()
    assert answer.mimetype == kind
    if kind.endswith("json"):
        jsonschema.Draft202012Validator({**content["schema"], "components": DOCUMENT["components"]}).validate(
            answer.json
        )
    if kind == "application/problem+json":
        assert PROBLEMS[answer.json["code"]].status == int(status)
