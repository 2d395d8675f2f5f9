"""What the owner may ask by a button on the status page."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from common.errors import BridgeError


class CommandKind(StrEnum):
    CLOSE = "close"  # a trade: cancel its exits and close its quantity
    RESET = "reset"  # a symbol: release the re-entry block
    ADOPT = "adopt"  # a trade on hold: take what the broker shows as the trade and go on
    FLATTEN = "flatten"  # a trade on hold: cancel its orders and close what the broker shows of it
    DISMISS = "dismiss"  # a trade on hold: the owner has settled it; close the row
    IGNORE_POSITION = "ignore-position"  # a symbol: leave the owner's position alone and trade alongside it
    ADOPT_POSITION = "adopt-position"  # a symbol: make the owner's position a trade of the journal
    FOLLOW = "follow"  # a symbol: bring the account to what its strategy holds, at market
    LEAVE = "leave"  # a symbol: say no more about the difference until the strategy's next alert

    @property
    def acts_on_positions(self) -> bool:
        """True if it is carried out on what the account shows, which is read anew for it."""
        return self not in (CommandKind.CLOSE, CommandKind.RESET, CommandKind.LEAVE)


@dataclass(frozen=True, slots=True)
class Command:
    """One wish; `trade_id` for wishes about a trade, `symbol` (canonical) for those about a symbol."""

    kind: CommandKind
    trade_id: int | None = None
    symbol: str | None = None


class CommandRefused(BridgeError):
    """The command cannot be carried out now; the text says why and what to do. Nothing was changed."""

    code = "command_refused"
