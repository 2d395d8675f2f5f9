"""Which account may be traded, as a table."""

from __future__ import annotations

import pytest

from executor.core.accounts import AccountRefused, AccountRules, is_paper

# fmt: off
ALLOWED = [
    # login shows         --account  --live   journal's  → account
    (["DU1"],             None,      None,    None,      "DU1"),
    (["DF1"],             None,      None,    "DF1",     "DF1"),
    (["DU1", "DU2"],      "DU2",     None,    None,      "DU2"),
    (["U1"],              None,      "U1",    None,      "U1"),
    (["U1", "U2"],        None,      "U2",    "U2",      "U2"),
    (["U1", "U2"],        "U2",      "U2",    None,      "U2"),
]
REFUSED = [
    (["DU1", "DU2"],      None,      None,    None,      "several accounts .DU1, DU2.; name one with --account"),
    (["DU1"],             "DU9",     None,    None,      "TWS shows DU1, not DU9"),
    (["U1"],              None,      None,    None,      "start with --live U1"),
    (["U1"],              "U1",      None,    None,      "start with --live U1"),
    (["DU1"],             None,      "U1",    None,      "TWS shows DU1, not U1"),
    (["U1", "U2"],        "U2",      "U1",    None,      "start with --live U2"),
    (["DU1"],             None,      None,    "DU2",     "belongs to account DU2, but TWS is logged in to DU1"),
    (["U1"],              None,      "U1",    "DU1",     "belongs to account DU1"),
    ([],                  None,      None,    None,      "no account"),
]
# fmt: on


@pytest.mark.parametrize(("shown", "account", "live", "bound", "chosen"), ALLOWED)
def test_allowed(shown: list[str], account: str, live: str, bound: str, chosen: str) -> None:
    assert AccountRules(account, live).choose(shown, bound) == chosen


@pytest.mark.parametrize(("shown", "account", "live", "bound", "words"), REFUSED)
def test_refused(shown: list[str], account: str, live: str, bound: str, words: str) -> None:
    with pytest.raises(AccountRefused, match=words):
        AccountRules(account, live).choose(shown, bound)


def test_modes() -> None:
    assert [is_paper(name) for name in ("DU1", "DF1", "U1", "F1", "")] == [True, True, False, False, False]
    assert AccountRules(built_in=True).mode("DU1") == "built-in paper"
    assert (AccountRules().mode("DU1"), AccountRules().mode("U1")) == ("paper", "live")
