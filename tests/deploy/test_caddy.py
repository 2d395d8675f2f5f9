"""The Caddyfile under a real Caddy, where one is on the machine, with a real relay behind it."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from common.checkup import answers
from tests.relay.examples import AUTH, body
from tests.relay.process import RelayProcess, environment

CADDY = shutil.which("caddy")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CADDY is None, reason="Caddy is not on this machine; without it the Caddyfile is only looked at"
    ),
]
FILE = Path(__file__).parents[2] / "deploy" / "vps" / "Caddyfile"
TRADINGVIEW = {"C": "US", "ST": "Ohio", "L": "Westerville", "O": "TradingView, Inc.", "CN": "TradingView Webhooks"}
EMAIL = "webhook-server@tradingview.com"
_OIDS = {
    "C": NameOID.COUNTRY_NAME, "ST": NameOID.STATE_OR_PROVINCE_NAME, "L": NameOID.LOCALITY_NAME,
    "O": NameOID.ORGANIZATION_NAME, "CN": NameOID.COMMON_NAME,
}  # fmt: skip


class Authority:
    """Issues certificates with any subject; trustme's have its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._key, self._name = folder, _new_key(), _named({"CN": "An authority"})
        self.file = self._write("authority", self._name, self._key, x509.BasicConstraints(True, None), None)

    def issue(self, file: str, subject: dict[str, str], name: x509.GeneralName | None) -> Path:
        """Write certificate and key into one file and return it."""
        return self._write(file, _named(subject), _new_key(), x509.BasicConstraints(False, None), name)

    def _write(
        self, file: str, subject: x509.Name, key: ec.EllipticCurvePrivateKey, basic: x509.BasicConstraints,
        name: x509.GeneralName | None,
    ) -> Path:  # fmt: skip
        now = datetime.now(UTC)
        made = x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
        made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=30))
        made = made.add_extension(basic, critical=True)
        if name:
            made = made.add_extension(x509.SubjectAlternativeName([name]), critical=False)
        pem = made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        plain = serialization.NoEncryption()
        pem += key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        path = self.folder / f"{file}.pem"
        path.write_bytes(pem)
        return path


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _named(subject: dict[str, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(_OIDS[word], text) for word, text in subject.items()])


@dataclass(frozen=True)
class Site:
    """The relay as the world sees it."""

    port: int
    authority: Authority

    def post(self, path: str, certificate: Path | None = None, **headers: str) -> int:
        context = ssl.create_default_context(cafile=str(self.authority.file))
        if certificate:
            context.load_cert_chain(certificate)
        connection = http.client.HTTPSConnection("localhost", self.port, context=context, timeout=30)
        try:
            connection.request("POST", path, body(id=f"{path} {certificate}"), {**AUTH, **headers})
            return connection.getresponse().status
        finally:
            connection.close()


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RelayProcess]:
    flags = ("--proxy-hops", "1", "--allowed-addresses", "127.0.0.1")
    found = RelayProcess(tmp_path / "relay", *flags)
    yield found
    found.stop()


@pytest.fixture(params=[False, True], ids=["as it is", "with tradingview_only"])
def site(
    request: pytest.FixtureRequest, relay: RelayProcess, tmp_path: Path, free_port: Callable[[], int],
    eventually: Callable[..., object],
) -> Iterator[Site]:  # fmt: skip
    """Caddy with our file: another name, certificates of our own, and no other change."""
    with caddy(tmp_path, relay.port, free_port(), eventually, only=request.param) as found:
        yield found


@contextmanager
def caddy(
    tmp_path: Path, relay_port: int, port: int, eventually: Callable[..., object], *, only: bool = False
) -> Iterator[Site]:
    authority = Authority(tmp_path)
    own = authority.issue("site", {"CN": "localhost"}, x509.DNSName("localhost"))
    text = FILE.read_text().replace("127.0.0.1:8080", f"127.0.0.1:{relay_port}")
    text = text.replace("/etc/ssl/certs/ca-certificates.crt", str(authority.file))
    text = text.replace("relay.example.com {", f"https://localhost:{port} {{")
    if only:
        text = text.replace("# import tradingview_only", "import tradingview_only").replace(
            "\ttls {", f"\ttls {own} {own} {{"
        )
    else:
        text = re.sub(r"(localhost:\d+ \{\n)", rf"\1\ttls {own} {own}\n", text)
    (tmp_path / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https off\n}\n" + text)
    command = [str(CADDY), "run", "--adapter", "caddyfile", "--config", str(tmp_path / "Caddyfile")]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(command, stderr=log, env={**os.environ, "HOME": str(tmp_path)})
    eventually(lambda: process.poll() is not None or answers("127.0.0.1", port))
    assert process.poll() is None, (tmp_path / "log").read_text()
    try:
        yield Site(port, authority)
    finally:
        process.terminate()
        process.wait(50)


def test_alerts_pass_and_strangers_are_told_apart(site: Site, request: pytest.FixtureRequest) -> None:
    only = bool(request.node.callspec.params["site"])
    email = x509.RFC822Name(EMAIL)
    tradingview = site.authority.issue("tradingview", TRADINGVIEW, email)
    other = site.authority.issue("other", {**TRADINGVIEW, "O": "Somebody else"}, email)
    nameless = site.authority.issue("nameless", TRADINGVIEW, None)
    assert site.post("/webhook") == (403 if only else 202)
    if only:
        assert site.post("/webhook", tradingview) == 202
        assert site.post("/webhook", other) == site.post("/webhook", nameless) == 403
        assert site.post("/webhook/a-secret") == 403
        assert site.post("/v1/lease") == 401, "the relay's own answer: executors pass"


def test_a_claimed_address_is_not_believed(site: Site, request: pytest.FixtureRequest) -> None:
    """The relay lets 127.0.0.1 in, which is the sender's true address here, and Caddy does not pass on what it claims."""
    if request.node.callspec.params["site"]:
        pytest.skip("the certificate comes first there")
    assert site.post("/webhook", **{"X-Forwarded-For": "203.0.113.9"}) == 202


class Restarting:
    """A relay on a port that outlives it, as under its socket unit."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.socket = folder, socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.port: int = self.socket.getsockname()[1]
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        number = self.socket.fileno()
        command = [sys.executable, "-m", "relay", "--listen-fd", str(number)]
        with open(self.folder / "relay.log", "ab") as log:
            return subprocess.Popen(command, cwd=self.folder, env=environment(), stderr=log, pass_fds=[number])

    def restart(self) -> None:
        self.stop()
        self.process = self._start()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(50)


def test_restarts_behind_caddy_refuse_nobody(
    tmp_path: Path, free_port: Callable[[], int], eventually: Callable[..., object]
) -> None:
    """Caddy keeps connections to the relay and uses them again: one that ends at the wrong moment would be a 502."""
    relay, answered, over = Restarting(tmp_path), Counter[int](), threading.Event()

    def send(site: Site, place: int) -> None:
        count = 0
        while not over.wait(0.003):
            count += 1
            answered[site.post(f"/webhook?{place}-{count}")] += 1

    with caddy(tmp_path, relay.port, free_port(), eventually) as site:
        threads = [threading.Thread(target=send, args=(site, place), daemon=True) for place in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            before = answered.total()
            eventually(lambda before=before: answered.total() > before + 10, seconds=50)
            relay.restart()
        over.set()
        for thread in threads:
            thread.join(20)
    relay.stop()
    relay.socket.close()
    assert set(answered) == {202}
