"""Signatures: the specification's scheme, rotation, and nothing but refusals for hostile bytes."""

from __future__ import annotations

import base64
import hmac
import json
from datetime import UTC, datetime, timedelta

import pytest
import standardwebhooks
from hypothesis import example, given
from hypothesis import strategies as st

from common.errors import ConfigError, StaleSignal, UnauthenticSignal
from common.signing import SigningKeys, same_secret, sign, verify

SPEC_KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = datetime(2026, 11, 23, 9, 15, tzinfo=UTC)
STAMP = int(NOW.timestamp())
KEYS = SigningKeys.parse(SPEC_KEY)
OTHER = "whsec_" + base64.b64encode(b"x" * 32).decode()
BODY = b'{"action":"close","symbol":"EURUSD"}'


def test_the_specification_vector_is_reproduced():
    """The example that the Standard Webhooks libraries share in their tests."""
    headers = sign(KEYS, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_we_sign_we_verify():
    headers = sign(KEYS, "msg_1", STAMP, BODY)
    assert verify(KEYS, headers, BODY, now=NOW) == "msg_1"


def test_header_names_match_in_any_case():
    headers = {name.title(): value for name, value in sign(KEYS, "m", STAMP, BODY).items()}
    assert verify(KEYS, headers, BODY) == "m"


def test_each_key_of_a_rotation_signs_and_each_verifies():
    both = SigningKeys.parse(f"{OTHER}, {SPEC_KEY}")
    headers = sign(both, "m", STAMP, BODY)
    assert len(headers["webhook-signature"].split(" ")) == 2
    for keys in (KEYS, SigningKeys.parse(OTHER), both):
        assert verify(keys, headers, BODY) == "m"
    assert verify(both, sign(KEYS, "m", STAMP, BODY), BODY) == "m"


def test_a_foreign_key_is_refused():
    with pytest.raises(UnauthenticSignal):
        verify(SigningKeys.parse(OTHER), sign(KEYS, "m", STAMP, BODY), BODY)


@pytest.mark.parametrize("seconds, fresh", [(-301, False), (-300, True), (0, True), (300, True), (301, False)])
def test_the_age_is_judged_on_both_sides(seconds, fresh):
    headers = sign(KEYS, "m", STAMP, BODY)
    now = NOW + timedelta(seconds=seconds)
    if fresh:
        assert verify(KEYS, headers, BODY, now=now) == "m"
    else:
        with pytest.raises(StaleSignal):
            verify(KEYS, headers, BODY, now=now)


def test_without_a_clock_any_age_will_do():
    assert verify(KEYS, sign(KEYS, "m", 1, BODY), BODY) == "m"


HOSTILE = {
    "no comma": {"webhook-signature": "v1"},
    "two commas": {"webhook-signature": "v1,aa,bb"},
    "two spaces": {"webhook-signature": "v1,aa  v1,bb"},
    "bad padding": {"webhook-signature": "v1,a"},
    "junk in the base64": {"webhook-signature": "v1,g0hM9SsE+OT\x00PJTGt"},
    "empty": {"webhook-signature": ""},
    "non-ascii": {"webhook-signature": "v1,é"},
    "fraction": {"webhook-timestamp": "1614265330.5"},
    "underscore": {"webhook-timestamp": "1_614265330"},
    "arabic digits": {"webhook-timestamp": "١٦١٤٢٦٥٣٣٠"},
    "spaces": {"webhook-timestamp": " 1614265330"},
    "huge": {"webhook-timestamp": "9" * 400},
    "dot in the id": {"webhook-id": "a.b"},
    "joined ids": {"webhook-id": "a,b"},
    "empty id": {"webhook-id": ""},
    "newline": {"webhook-id": "a\n"},
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_headers_are_refused_and_nothing_else_happens(change):
    with pytest.raises(UnauthenticSignal):
        verify(KEYS, {**sign(KEYS, "m", STAMP, BODY), **change}, BODY, now=NOW)


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_refused(missing):
    headers = sign(KEYS, "m", STAMP, BODY)
    del headers[missing]
    with pytest.raises(UnauthenticSignal):
        verify(KEYS, headers, BODY)


@given(st.text(), st.text(), st.text(), st.binary())
@example("m", "1", "v1,\udc80", b"\xff")
@example("m", "1", "v1," + "=" * 2, b"")
def test_whatever_the_bytes_only_a_refusal(id, timestamp, signature, body):
    headers = {"webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature}
    with pytest.raises(UnauthenticSignal):
        verify(KEYS, headers, body, now=NOW)


@given(st.binary(min_size=1), st.data())
def test_any_change_of_any_byte_is_refused(body, data):
    headers = sign(KEYS, "m", STAMP, body)
    at = data.draw(st.integers(0, len(body) - 1))
    changed = bytearray(body)
    changed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(UnauthenticSignal):
        verify(KEYS, headers, bytes(changed))


IDS = st.text("abcXYZ019-_:", min_size=1, max_size=40)


@given(IDS, st.dictionaries(st.text(max_size=5), st.integers(), max_size=3))
def test_the_oracle_accepts_what_we_sign_and_we_what_it_signs(id, data):
    oracle = standardwebhooks.Webhook(SPEC_KEY)
    now = datetime.now(UTC)
    body = json.dumps(data)
    headers = sign(KEYS, id, int(now.timestamp()), body)
    assert oracle.verify(body, headers) == data
    theirs = {**headers, "webhook-signature": oracle.sign(id, now, body)}
    assert verify(KEYS, theirs, body.encode(), now=now) == id


SIGNATURE_LIKE = st.lists(
    st.sampled_from(["v1,good", "v1a,AAAA", "v2,AAAA", "v1,AAAA", "", "v1", ",", "v1,é"]), max_size=4
)


@given(SIGNATURE_LIKE, st.sampled_from(["{now}", "0{now}", "{now}.0", "+{now}", " {now}", "1e9"]))
def test_we_accept_nothing_that_the_oracle_refuses(parts, timestamp):
    now = datetime.now(UTC)
    headers = sign(KEYS, "m", int(now.timestamp()), BODY)
    good = headers["webhook-signature"]
    headers["webhook-signature"] = " ".join(good if part == "v1,good" else part for part in parts)
    headers["webhook-timestamp"] = timestamp.format(now=int(now.timestamp()))
    try:
        verify(KEYS, headers, BODY, now=now)
    except UnauthenticSignal:
        return
    standardwebhooks.Webhook(SPEC_KEY).verify(BODY, headers)


@pytest.mark.parametrize("id", ["", "a.b", "a,b", "a b", "é", "a\n", "x" * 129])
def test_an_id_whose_signature_could_be_moved_is_not_signed(id):
    with pytest.raises(ValueError):
        sign(KEYS, id, STAMP, BODY)


BAD_KEYS = {
    "none": "",
    "no prefix": "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "not base64": "whsec_****",
    "too short": "whsec_" + base64.b64encode(b"x" * 23).decode(),
    "too long": "whsec_" + base64.b64encode(b"x" * 65).decode(),
}


@pytest.mark.parametrize("text", BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_a_bad_key_is_a_configuration_error_that_does_not_show_it(text):
    with pytest.raises(ConfigError) as caught:
        SigningKeys.parse(text)
    assert "whsec_" in str(caught.value) and (not text or text[6:] not in str(caught.value))


def test_all_bad_keys_are_reported_together():
    with pytest.raises(ConfigError) as caught:
        SigningKeys.parse("x,whsec_AAAA")
    assert len(caught.value.problems) == 2


def test_fingerprints_are_stable_and_do_not_show_the_key():
    (fingerprint,) = KEYS.fingerprints()
    assert fingerprint == SigningKeys.parse(SPEC_KEY).fingerprints()[0] and len(fingerprint) == 8
    assert repr(KEYS) == f"SigningKeys({fingerprint})"


@pytest.mark.parametrize(
    "candidate, same",
    [("one", True), (b"two", True), ("three", False), ("", False), ("é", False), ("\ud800", False)],
)
def test_same_secret_compares_anything_with_anything(candidate, same):
    assert same_secret(candidate, ["one", b"two"]) is same


def test_every_secret_is_compared_by_the_comparison_of_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared, real = [], hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))
    assert same_secret("two", ["one", "two", "three"])
    assert len(compared) == 3  # also those behind the one that fits
