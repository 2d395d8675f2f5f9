"""A few of the sessions of `make sessions`, and what shows that its oracle can say no."""

from __future__ import annotations

import pytest

from tests.sessions.play import play, play_seed
from tests.sessions.story import Step

BRACKET = {"action": "open", "symbol": "EURUSD", "side": "buy", "quantity": 20000, "tp": "1.2", "sl": "1.18"}
SETTLE: Step = ("settle", {})


def post(**more: object) -> Step:
    return "post", {"body": {**BRACKET, **more}}


def close() -> Step:
    return "post", {"body": {"action": "close", "symbol": "EURUSD"}}


def scaled(size: int) -> Step:
    body = {"action": "strategy", "symbol": "EURUSD", "market_position": "long", "market_position_size": size}
    return "post", {"body": body}


def fault(knob: str, **given: object) -> Step:
    return "do", {"action": "fault", "knob": knob, **given}


def price(value: str) -> Step:
    return "do", {"action": "set_price", "symbol": "EURUSD", "price": value}


# sabotage -> steps in which it shows, and the law that says so
PLANTED: dict[str, tuple[list[Step], str]] = {
    "never_resized": (
        [fault("oca_ignored", count=2), fault("partials", role="take_profit", sizes=[5000], then="rest"), post(), SETTLE,
         price("1.201"), SETTLE], "nobody_is_asked_needlessly"
    ),
    "block_ignored": ([post(), SETTLE, price("1.201"), SETTLE, post(tp="1.21", sl="1.19")], "blocked_side_stays_out"),
    "never_resent": (
        [fault("drop", direction="in", when="before", kind="placeOrder"), post(), ("until_cut", {}),
         ("kill", {"who": "executor"}), SETTLE], "entered_means_entered"
    ),
    "reduced_at_once": ([post(), SETTLE, scaled(5000), SETTLE], "exits_shrink_first"),
    "close_beside_exits": ([post(), SETTLE, close()], "exits_gone_before_a_close"),
}  # fmt: skip


LATE = ("never_resized", "never_resent")  # what shows only when everything should have settled takes long
MORE = ("block_ignored",)
MARKS = {**dict.fromkeys(LATE, pytest.mark.slow), **dict.fromkeys(MORE, pytest.mark.ci)}
NAMES = [pytest.param(name, marks=MARKS.get(name, ())) for name in PLANTED]


@pytest.mark.parametrize("name", NAMES)
def test_a_sabotage_is_caught_by_its_law(name: str) -> None:
    steps, law = PLANTED[name]
    verdict = play(steps, sabotage=name, seconds=20)
    assert any(text.startswith(f"{law}: ") for text in verdict.broken), verdict.broken


@pytest.mark.parametrize("name", NAMES)
def test_without_the_sabotage_no_law_is_broken(name: str) -> None:
    assert play(PLANTED[name][0]).broken == []


@pytest.mark.timeout(300)  # a busy machine may take its time
@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(8, id="calm", marks=pytest.mark.ci),
        pytest.param(3, id="with trouble", marks=pytest.mark.ci),
        pytest.param(6, id="with more trouble"),
    ],
)
def test_in_a_random_session_no_law_is_broken(seed: int) -> None:
    assert play_seed(seed).broken == []
