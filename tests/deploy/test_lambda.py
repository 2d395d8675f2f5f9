"""`make deploy-lambda`: the template as AWS's own tools judge it, and the function under AWS's own runtime client."""

from __future__ import annotations

import base64
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from common.signing import SigningKeys, sign, verify
from deploy import aws_lambda
from deploy.aws_lambda import HERE, NEEDED, ROOT, part_of_lock
from tests.pending.pg import PostgresServer, running_postgres
from tests.relay.examples import AUTH, ENVIRONMENT, EXECUTOR, SENDER_SIGNING, SIGNING
from tests.relay.examples import signal as alert

TEMPLATE = (HERE / "template.yaml").read_text()


# --- the template -----------------------------------------------------------------------------------


def complaints(template: str) -> list[str]:
    from cfnlint.api import lint

    return [str(each) for each in lint(template)]


@pytest.mark.slow
def test_cfn_lint_has_no_complaint_and_would_have_one() -> None:
    assert complaints(TEMPLATE) == []
    assert complaints(TEMPLATE.replace("FunctionUrlConfig", "FunctionUrlConfg"))
    assert complaints(TEMPLATE.replace("MemorySize: 512", "MemorySize: 51200"))


@pytest.mark.slow
def test_the_sam_translator_makes_function_url_role_and_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    from samtranslator.translator.transform import transform
    from samtranslator.yaml_helper import yaml_parse

    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    sam = yaml_parse(TEMPLATE.replace("CodeUri: bundle/", "CodeUri: s3://bucket/bundle.zip"))  # as `sam deploy` does

    class Policies:
        def load(self) -> dict[str, str]:
            return {}

    made = transform(sam, {}, Policies())
    kinds = [each["Type"] for each in made["Resources"].values()]
    assert {"AWS::Lambda::Function", "AWS::Lambda::Url", "AWS::IAM::Role", "AWS::Lambda::Permission"} <= set(kinds)
    [function] = [each["Properties"] for each in made["Resources"].values() if each["Type"] == "AWS::Lambda::Function"]
    assert function["Runtime"] == f"python{aws_lambda.PYTHON}"
    assert "RelayUrl" in made["Resources"], "the output refers to it"
    [url] = [each["Properties"] for each in made["Resources"].values() if each["Type"] == "AWS::Lambda::Url"]
    assert url["AuthType"] == "NONE"


def variables() -> dict[str, str]:
    """The function's environment as the template says, with the secrets of our tests."""

    class Loader(yaml.SafeLoader):
        """Reads CloudFormation's short forms as their text."""

    Loader.add_multi_constructor("!", lambda loader, tag, node: node.value)
    template = yaml.load(TEMPLATE, Loader)
    found: dict[str, str] = template["Resources"]["Relay"]["Properties"]["Environment"]["Variables"]
    return {name: ENVIRONMENT.get(name, value) for name, value in found.items()}


# --- the bundle -------------------------------------------------------------------------------------


TARGET = {
    "python_version": aws_lambda.PYTHON, "python_full_version": f"{aws_lambda.PYTHON}.0", "sys_platform": "linux",
    "os_name": "posix", "platform_system": "Linux", "platform_machine": "aarch64", "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}  # fmt: skip


def closure(*names: str) -> set[str]:
    """Return libraries and all they need on the function, as those installed here say."""
    found: dict[str, set[str]] = {}
    waiting = [Requirement(name) for name in names]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        extras = {"", *wanted.extras} - found.get(name, set())
        found.setdefault(name, set()).update(extras)
        for text in (requires(name) or ()) if extras else ():
            needed = Requirement(text)
            if any(needed.marker is None or needed.marker.evaluate({**TARGET, "extra": extra}) for extra in extras):
                waiting.append(needed)
    return set(found)


def test_the_bundle_takes_what_the_relay_imports_from_the_lock() -> None:
    direct = ("flask", "click", "python-dotenv", "prometheus-client", "psycopg[binary,pool]", "apig-wsgi")
    assert set(NEEDED) == closure(*direct)
    part = part_of_lock((ROOT / "requirements.txt").read_text(), NEEDED)
    entries = [line for line in part.splitlines() if "==" in line]
    assert len(entries) == len(NEEDED)
    assert part.count("--hash=sha256:") >= len(NEEDED)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_bundle_is_made_for_the_function(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploy.aws_lambda", "--build-only", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if "pip" in done.stderr and done.returncode:
        pytest.skip(f"the libraries cannot be downloaded: {done.stderr}")
    assert done.returncode == 0, done.stderr
    bundle = tmp_path / "out" / "bundle"
    assert (bundle / "handler.py").is_file() and (bundle / "relay" / "pending" / "postgres_1.sql").is_file()
    assert not (bundle / "executor").exists()
    assert list(bundle.glob("psycopg_binary/*.cpython-313-aarch64-linux-gnu.so"))
    assert sum(path.stat().st_size for path in bundle.rglob("*")) < 50_000_000


def test_secrets_are_written_once_for_their_owner(tmp_path: Path) -> None:
    from click.testing import CliRunner

    file = tmp_path / "secrets.json"
    result = CliRunner().invoke(aws_lambda.main, ["--new-secrets", str(file)])
    value = json.loads(file.read_text())
    assert SigningKeys.parse(value["signing_secrets"]).fingerprints()
    assert value["webhook_secrets"] not in result.output
    again = CliRunner().invoke(aws_lambda.main, ["--new-secrets", str(file)])
    assert (again.exit_code, "exists" in again.output, json.loads(file.read_text())) == (1, True, value)
    wanted = {"queue_url", "webhook_secrets", "sender_signing_secrets", "signing_secrets", "executor_tokens"}
    assert set(value) == wanted
    assert all(f"SecretString:{name}}}}}" in TEMPLATE for name in wanted)
    if sys.platform != "win32":
        assert file.stat().st_mode & 0o777 == 0o600


# --- the function -----------------------------------------------------------------------------------


class RuntimeApi:
    """The side of Lambda that a runtime client talks to: it hands out events and takes the answers."""

    def __init__(self) -> None:
        events, answers = self.events, self.answers = queue.Queue(), queue.Queue()  # type: queue.Queue[Any], queue.Queue[Any]
        numbers = itertools.count()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one piece

            def do_GET(self) -> None:
                event = events.get()
                if event is None:
                    self.close_connection = True
                    return
                deadline = int((datetime.now(UTC) + timedelta(seconds=15)).timestamp() * 1000)
                headers = {
                    "Lambda-Runtime-Aws-Request-Id": str(next(numbers)), "Lambda-Runtime-Deadline-Ms": str(deadline),
                    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-central-1:1:function:relay",
                    "Lambda-Runtime-Trace-Id": "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0",
                    "Content-Type": "application/json",
                }  # fmt: skip
                self._answer(200, json.dumps(event).encode(), headers)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answers.put((self.path.rpartition("/")[2], json.loads(body)))
                self._answer(202, b"{}", {})

            def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *args: None  # type: ignore[method-assign]  # the function's end cuts its poll
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def call(self, event: dict[str, Any], seconds: float = 50) -> Any:
        """Have the function handle an event; return its answer."""
        self.events.put(event)
        kind, answer = self.answers.get(timeout=seconds)
        assert kind == "response", answer
        return answer

    def close(self) -> None:
        self.events.put(None)
        self.server.shutdown()
        self.server.server_close()


def request(method: str, path: str, body: bytes | dict[str, Any] = b"", headers: dict[str, str] | None = None) -> Any:
    """An event as a function URL makes it (source: AWS, Lambda function URLs, request payload 2.0)."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"host": "abc.lambda-url.eu-central-1.on.aws", "x-forwarded-for": "203.0.113.9", **(headers or {})}
    return {
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "", "isBase64Encoded": True,
        "headers": {name.lower(): value for name, value in named.items()}, "body": base64.b64encode(raw).decode(),
        "requestContext": {"http": {
            "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "203.0.113.9", "userAgent": "test",
        }, "requestId": "1", "stage": "$default"},
    }  # fmt: skip


class Function:
    """The handler under awslambdaric, over a database of its own."""

    def __init__(self, queue_url: str, **more: str) -> None:
        self.api = RuntimeApi()
        known = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
        environment = {
            **known, **variables(), "RELAY_QUEUE_URL": queue_url, **more, "PYTHONPATH": str(ROOT),
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.api.server.server_port}",
        }  # fmt: skip
        command = [sys.executable, "-m", "awslambdaric", "handler.handler"]
        self.process = subprocess.Popen(
            command, cwd=HERE, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def __call__(
        self, method: str, path: str, body: Any = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        answer = self.api.call(request(method, path, body, headers))
        return answer["statusCode"], json.loads(answer["body"])

    def close(self) -> str:
        self.process.kill()
        output = self.process.communicate()[0].decode()
        self.api.close()
        return output


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def function(postgres: PostgresServer) -> Iterator[Function]:
    found = Function(postgres.new_database())
    yield found
    output = found.close()
    assert "Traceback" not in output, output
    for secret in ENVIRONMENT.values():
        assert secret not in output


def test_from_alert_to_ack_on_lambda(function: Function) -> None:
    assert function("GET", "/readyz")[1]["queue"]["engine"] == "postgresql"
    status, accepted = function("POST", "/webhook", alert(id="1"), AUTH)
    assert (status, accepted["status"]) == (202, "queued")
    assert function("POST", "/webhook", alert(id="1"), AUTH) == (200, {"status": "duplicate", "id": accepted["id"]})
    assert function("POST", "/webhook", alert(id="2"))[0] == 401
    assert function("POST", "/webhook", b'{"action": ', AUTH)[1]["code"] == "malformed"
    status, found = function("POST", "/v1/lease", {"wait_seconds": 20}, EXECUTOR)
    [leased] = found["signals"]
    assert verify(SigningKeys.parse(SIGNING), leased["headers"], leased["payload"]) == leased["id"] == accepted["id"]
    acks = {"acks": [{"id": leased["id"], "lease": leased["lease"]}]}
    assert function("POST", "/v1/ack", acks, EXECUTOR)[1]["acked"] == [accepted["id"]]
    assert function("GET", "/v1/status", headers=EXECUTOR)[1]["queue"]["depth"] == 0


@pytest.mark.slow
def test_a_poll_is_answered_within_the_limit(postgres: PostgresServer) -> None:
    """It occupies a process while it waits; the template's 5 s are 1 s here."""
    assert float(variables()["RELAY_LONGEST_WAIT_SECONDS"]) < 15, "the function's Timeout"
    function = Function(postgres.new_database(), RELAY_LONGEST_WAIT_SECONDS="1")
    try:
        assert function("GET", "/healthz")[0] == 200
        began = time.monotonic()
        assert function("POST", "/v1/lease", {"wait_seconds": 55}, EXECUTOR) == (200, {"signals": []})
        assert 0.9 < time.monotonic() - began < 25
    finally:
        function.close()


def test_a_header_with_an_underscore_is_not_another_header(function: Function) -> None:
    body = json.dumps(alert(symbol="AAPL")).encode()
    headers = sign(SigningKeys.parse(SENDER_SIGNING), "right", int(time.time()), body)
    status, found = function("POST", "/webhook", body, {**headers, "webhook_id": "another"})
    assert (status, found.get("status")) == (202, "queued")


@pytest.mark.slow
def test_after_a_freeze_in_which_the_database_went_away(postgres: PostgresServer) -> None:
    """Lambda freezes a process between requests; its connections may be dead when it wakes."""
    function = Function(postgres.new_database())
    assert function("POST", "/webhook", alert(id="1"), AUTH)[0] == 202
    function.process.send_signal(signal.SIGSTOP)
    postgres.restart()
    function.process.send_signal(signal.SIGCONT)
    statuses = [function("POST", "/webhook", alert(id=str(number), symbol="AAPL"), AUTH)[0] for number in range(2, 6)]
    assert set(statuses) <= {202, 503}
    assert statuses[-1] == 202
    found = function("POST", "/v1/lease", {"wait_seconds": 0}, EXECUTOR)[1]["signals"]
    assert len(found) == 1 + statuses.count(202)
    function.close()
