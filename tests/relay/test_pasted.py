"""Alerts pasted from web pages, chats and word processors: the cause in words for their sender, nothing for a stranger."""

from __future__ import annotations

import json
import time

import pytest

from common import strict_json
from common.errors import MalformedSignal
from common.pasted import bare, secrets_in
from tests.relay.examples import SECRET, signal

GOOD = '{"secret":"%s","action":"open","symbol":"EURUSD","side":"buy","quantity":10000,"tp":1.20,"sl":1.18}'
# what went wrong → (what it made of a good alert, words of the answer)
PASTED = {
    "curly quotes": (lambda t: curly(t), "is a typographic quotation mark"),
    "curly quotes, German": (lambda t: t.replace('"action"', "„action“"), "is a typographic quotation mark"),
    "guillemets": (lambda t: t.replace('"action"', "«action»"), "is a typographic quotation mark"),
    "one curly quote behind a text": (lambda t: t.replace('"open"', '"open”'), "typographic quotation mark"),
    "single quotes": (lambda t: t.replace('"', "'"), "is not a JSON quotation mark"),
    "curly single quotes": (lambda t: t.replace('"side"', "‘side’"), "is not a JSON quotation mark"),
    "escaped quotes": (lambda t: t.replace('"', '\\"'), "the quotation marks are escaped"),
    "a quote that begins plain and ends curly": (lambda t: t.replace('","action', '”,"action'), "a typographic quotation mark"),
    "no-break spaces": (lambda t: t.replace(",", ",\u00a0"), "U+00A0 is no ordinary space"),
    "narrow no-break spaces": (lambda t: t.replace(":", ":\u202f"), "U+202F is no ordinary space"),
    "a zero-width space in front": (lambda t: "\u200b" + t, "U+200B is no ordinary space"),
    "code of a web page": (lambda t: t.replace('"', "&quot;"), "code of a web page (such as &quot;)"),
    "a trailing comma": (lambda t: t.replace("}", ",}"), "a trailing comma"),
    "a trailing comma, lines": (lambda t: t.replace("}", ",\n}"), "a trailing comma"),
    "two commas": (lambda t: t.replace(',"tp"', ',,"tp"'), "a duplicate comma"),
    "a comma missing": (lambda t: t.replace(',"tp"', '"tp"'), "a comma is missing"),
    "a thousands separator": (lambda t: t.replace("10000", "10,000"), "the number 10,000 has a comma in it"),
    "a thousands separator, two": (lambda t: t.replace("10000", "1,000,000"), "the number 1,000,000 has a comma in it"),
    "a decimal comma": (lambda t: t.replace("1.20", "1,20"), "the number 1,20 has a comma in it"),
    "a thousands space": (lambda t: t.replace("10000", "10 000"), "the number 10 000 has a space in it"),
    "a placeholder": (lambda t: t.replace("10000", "{{strategy.order.contracts}}"), "was not filled in"),
    "no quotes around a name": (lambda t: t.replace('"action"', "action"), "a name without quotation marks"),
    "no quotes around a text": (lambda t: t.replace('"buy"', "buy"), "a text without quotation marks"),
    "a comment": (lambda t: t.replace('"tp"', '// exits\n"tp"'), "a comment; JSON has none"),
    "a line break in a text": (lambda t: t.replace("EURUSD", "EUR\nUSD"), "a line break or tab inside a text"),
    "a quote not closed": (lambda t: t.replace('"sl":1.18}', '"note":"x}'), "never closed"),
    "the end cut off": (lambda t: t[:-1], "ends too early"),
    "a text before it": (lambda t: "Alert: " + t, "does not begin with {"),
    "a text behind it": (lambda t: t + " sent by my script", "something follows"),
    "twice": (lambda t: t + t, "something follows"),
}  # fmt: skip
pasted = pytest.mark.parametrize(("made", "words"), PASTED.values(), ids=PASTED)


def curly(text: str) -> str:
    parts = text.split('"')
    return "".join(part + ("“" if place % 2 == 0 else "”") for place, part in enumerate(parts[:-1])) + parts[-1]


@pasted
def test_the_sender_hears_the_cause_in_words(web, made, words):
    answer = web.post(data=made(GOOD % SECRET).encode(), headers={})
    assert answer.status_code == 400, answer.text
    said = answer.json["problems"][0]["message"]
    assert words in said and "(line " in said, said
    assert SECRET not in answer.text


@pasted
def test_a_stranger_hears_the_same_as_ever(web, made, words):
    plain = web.post(data=(GOOD % "wrong-secret-of-a-stranger").encode(), headers={})
    answer = web.post(data=made(GOOD % "wrong-secret-of-a-stranger").encode(), headers={})
    assert (answer.status_code, answer.data) == (plain.status_code, plain.data) and answer.status_code == 401


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named(web, encoding):
    answer = web.post(data=(GOOD % SECRET).encode(encoding), headers={})
    assert answer.status_code == 400 and "is UTF-16; send the JSON as UTF-8" in answer.text
    assert web.post(data=(GOOD % "wrong").encode(encoding), headers={}).status_code == 401


@pytest.mark.parametrize("around", ["{}\u00a0", " {} ", "“{}”", "{}\n", "\u200b{}"])
def test_what_pasting_puts_around_a_secret_is_no_part_of_it(web, around):
    assert web.post(data=signal(secret=around.format(SECRET)), headers={}).status_code == 202
    assert web.post(data=signal(secret=around.format("wrong")), headers={}).status_code == 401


def test_a_name_in_capitals_is_told_and_its_secret_never_stored(web):
    answer = web.post(data=signal(Secret=SECRET), headers={})
    assert answer.status_code == 400 and answer.json["problems"][0]["field"] == "Secret"


@pytest.mark.parametrize(
    ("quantity", "words"),
    [("1,000", "without a comma"), ("1.000,5", "without a comma"), ("10 000", "digits alone"), ("10k", "digits alone"),
     ("$100", "digits alone"), ("10000 EUR", "digits alone")],
)  # fmt: skip
def test_numbers_as_people_write_them_are_told_how_to_write_them(web, quantity, words):
    answer = web.send(quantity=quantity)
    assert answer.status_code == 400
    [problem] = answer.json["problems"]
    assert problem["field"] == "quantity" and words in problem["message"]


@pytest.mark.parametrize("name", PASTED)
def test_no_secret_is_stored_with_a_pasted_alert_that_is_refused(web, name):
    other = "another-secret-that-no-setting-knows"
    web.post(data=PASTED[name][0](GOOD % other).encode())
    stored = [each.body for each in web.pending.refused(10)]
    assert len(stored) == 1 and other not in stored[0]


@pytest.mark.parametrize("quote", ['"', "'", "’", '\\"', "“"])
@pytest.mark.parametrize("secret", ["abc", SECRET, "what somebody else calls a secret"])
def test_the_owner_is_shown_all_of_a_refused_alert_but_its_secret(web, quote, secret):
    alert = '{"action":"close","secret":"%s","symbol":"EURUSD",}'.replace('"', quote)
    assert web.post(data=(alert % secret).encode()).status_code == 400
    (refused,) = web.pending.refused(10)
    assert secret not in refused.body and "close" in refused.body
    assert "EURUSD" in refused.body and "[secret]" in refused.body


def test_the_cause_is_found_in_bounded_time():
    for body in ('{"secret":' * 1600, "secret" + " " * 16000, "secret:" * 2300, "“" * 5000, "{" + "&quot" * 3000):
        started = time.thread_time()  # of our own work, whatever else this machine does
        secrets_in(body)
        with pytest.raises(MalformedSignal):
            strict_json.loads(body.encode())
        assert time.thread_time() - started < 0.2


def test_the_words_of_a_good_alert_are_untouched():
    assert strict_json.loads(json.dumps({"note": "it’s “fine”,}"}).encode()) == {"note": "it’s “fine”,}"}
    assert bare("a'b”c") == "a'b”c"
