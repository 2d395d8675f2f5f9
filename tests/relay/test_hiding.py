"""No secret of a sender is stored, logged or answered, wherever in an alert it was written, and in whatever form."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from relay.hiding import hidden
from tests.relay.examples import AUTH, FRESH_SECRET, SECRET, SENDER_SIGNING, TOKEN, Web, signal

PIECE = 12  # characters of a secret in a row that count as leaked


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(each):04x}" for each in text)


def spread(value: Any) -> bytes:
    return json.dumps({**signal(), **value}).encode()


# where the secret is -> the body, the headers besides the credential
PLACES: dict[str, tuple[bytes, dict[str, str]]] = {
    **{f"the field {name}": (spread({name: SECRET}), {}) for name in
       ("action", "symbol", "side", "quantity", "tp", "sl", "note", "id", "secret", "Secret", "unknown")},
    **{f"inside the field {name}": (spread({name: f"x {SECRET}!"}), {}) for name in ("symbol", "note", "id", "side", "tp")},
    "a symbol in small letters": (spread({"symbol": SECRET.lower()}), {}),
    "the name of a field": (spread({SECRET: 1}), {}),
    "a long name of a field": (spread({"x" * 20 + SECRET: 1}), {}),
    "the name of a field, twice": (b'{"%s":1,"%s":2}' % (SECRET.encode(), SECRET.encode()), {}),
    "a nested key": (spread({"alert": {"secret": SECRET}}), {}),
    "a nested name": (spread({"alert": {SECRET: {"a": 1}}}), {}),
    "a list": (spread({"alerts": [[SECRET], {"secret": SECRET}]}), {}),
    "webhook-id": (spread({}), {"webhook-id": SECRET}),
    "inside webhook-id": (spread({}), {"webhook-id": f"a-{SECRET}-1"}),
    "webhook-id of a body that is refused": (spread({"side": "up"}), {"webhook-id": SECRET}),
    "an escaped note": (f'{{"action":"close","symbol":"EURUSD","note":"{escaped(SECRET)}"}}'.encode(), {}),
    "an escaped name": (f'{{"action":"close","symbol":"EURUSD","{escaped(SECRET)}":1}}'.encode(), {}),
    "an escaped note of a body that is no JSON": (f'{{"note":"{escaped(SECRET)}",}}'.encode(), {}),
    "percent-encoded": (spread({"note": quote(SECRET.replace("-", "%2d").replace("_", "%5F"), safe="%"), "side": "up"}), {}),
    "no JSON": (f"secret={SECRET}".encode(), {}),
    "curly quotes": (f"{{\u201csecret\u201d: \u201c{SECRET}\u201d}}".encode(), {}),
    "single quotes": (f"{{'secret': '{SECRET}', 'side': 'up'}}".encode(), {}),
    "a text": (json.dumps(SECRET).encode(), {}),
    "a list of texts": (json.dumps([SECRET]).encode(), {}),
    "no UTF-8": (b"\xff" + SECRET.encode(), {}),
    "another sender's secret": (spread({"note": FRESH_SECRET, "side": "up"}), {}),
    "a sender's signing key": (spread({"note": SENDER_SIGNING, "side": "up"}), {}),
    "the executor's token": (spread({"note": TOKEN, "side": "up"}), {}),
    "a secret that is not ours": (b'{"secret":"An-Old-Secret-Of-Theirs","note":"An-Old-Secret-Of-Theirs","action":"x"}', {}),
}  # fmt: skip


@pytest.mark.parametrize("body, headers", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("beside", [True, False], ids=["header", "path"])
def test_no_piece_of_a_secret_is_kept(
    body: bytes, headers: dict[str, str], beside: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from common.secret import Secret

    web = Web(tmp_path, webhook_secrets=Secret(f"{SECRET},{FRESH_SECRET}"))
    with caplog.at_level("DEBUG"):
        path, credential = ("/webhook", AUTH) if beside else (f"/webhook/{SECRET}", {})
        answer = web.post(path, body, {**credential, **headers})
    assert answer.status_code in (200, 202, 400), answer.json
    said = "\n".join(repr(vars(record)) for record in caplog.records)
    with sqlite3.connect(tmp_path / "pending.db") as database:
        stored = "\n".join(database.iterdump())
    database.close()
    for text in (answer.get_data(as_text=True), said, stored):
        for secret in (
            SECRET,
            SECRET.upper(),
            SECRET.lower(),
            FRESH_SECRET,
            SENDER_SIGNING,
            TOKEN,
            "An-Old-Secret-Of-Theirs",
        ):
            pieces = {secret[at : at + PIECE] for at in range(len(secret) - PIECE + 1)}
            assert not [piece for piece in pieces if piece in text], text
        assert escaped(SECRET) not in text and escaped(SECRET).upper() not in text.upper()
    web.pending.close()


def test_what_only_looks_like_an_escape_stays_as_it_is() -> None:
    for text in ("100% sure", "%41 \\u0041", "\\u12", "%zz"):
        assert hidden(text, [SECRET]) == text


def test_alert_without_a_secret_in_it_is_taken_as_it_was(tmp_path: Path) -> None:
    web = Web(tmp_path)
    assert web.send(note="50% off \\ caf\u00e9", id="%41").status_code == 202
    (leased,) = web.lease()
    data = json.loads(leased["payload"])["data"]
    assert (data["note"], data["id"]) == ("50% off \\ caf\u00e9", "%41")
    web.pending.close()
