"""Which account may be traded: PURE rules over what TWS shows, the command line, and the journal's owner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import BridgeError

_PAPER = ("DU", "DF")  # source: IBKR, paper trading accounts begin with DU, advisors' with DF


class AccountRefused(BridgeError):
    """This login, or the choice of account, does not allow trading; the text says what to do. Nothing is sent."""

    code = "account-refused"


def is_paper(account: str) -> bool:
    """True if an account is a paper account.

    >>> is_paper("DU1234567"), is_paper("U1234567")
    (True, False)
    """
    return account.startswith(_PAPER)


@dataclass(frozen=True, slots=True)
class AccountRules:
    """`account` and `live` as given on the command line; `built_in` where the built-in paper TWS is traded on."""

    account: str | None = None
    live: str | None = None
    built_in: bool = False

    def choose(self, shown: Sequence[str], bound: str | None) -> str:
        """Return the account to trade, out of those the login shows; `bound` is the one the journal belongs to.

        Raises:
            AccountRefused: None can be traded; the text says why and what to do.
        """
        account = self._named(shown, bound)
        if bound is not None and bound != account:
            raise AccountRefused(
                f"this journal belongs to account {bound}, but TWS is logged in to {account}; log TWS in to {bound}, "
                "or use another journal (--db) for this account"
            )
        if not is_paper(account) and self.live != account:
            raise AccountRefused(
                f"{account} is a live account with real money; to trade it, start with --live {account}"
            )
        return account

    def _named(self, shown: Sequence[str], bound: str | None) -> str:
        named = self.account or self.live
        if named is not None and named not in shown:
            raise AccountRefused(f"TWS shows {_list(shown)}, not {named}; log TWS in to it, or correct --account")
        if named is None and len(shown) != 1:
            raise AccountRefused(f"this login has several accounts ({_list(shown)}); name one with --account")
        return named or shown[0]

    def mode(self, account: str) -> str:
        """Return in words what kind of money it is."""
        return "built-in paper" if self.built_in else "paper" if is_paper(account) else "live"


def refuse_other_client(client_id: int, others: Sequence[int]) -> None:
    """Make sure that the journal's live orders are this client's: TWS counts order ids for each client separately.

    Raises:
        AccountRefused: Some belong to another client id, so that a cancel would hit another order.
    """
    if others:
        raise AccountRefused(
            f"orders of this journal are live under client id {others[0]}, and only that client may change them: start with "
            f"--ib-client-id {others[0]} until they are done, not with {client_id}"
        )


def _list(accounts: Sequence[str]) -> str:
    return ", ".join(accounts) or "no account"
