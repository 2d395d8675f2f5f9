"""The settings' reference page, generated from the fields; `python -m tests.executor.settings_page` rewrites it."""

from __future__ import annotations

from pathlib import Path

from common.settings import ProgramSettings, Row, describe
from executor.settings import ExecutorSettings
from relay.settings import RelaySettings

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
HEAD = """# Settings

Generated from the code by `python -m tests.executor.settings_page`; a test keeps it current.

A flag wins over the environment, the environment over a file named by `NAME_FILE` (secrets only), and that over the
default. A `.env` file in the working directory counts as environment with lower priority. All mistakes are reported
together, and the program exits with code 2: among them every line of `.env` that cannot be read, and every name for one
of the two programs that is no setting, with the nearest that is. Every file may be UTF-8 or UTF-16, with or without a
byte-order mark, and end its lines as Windows does. Lists are comma-separated; lists of secrets have the newest first. A
required setting has no default.
"""
TOML = """
## executor.toml

Read from the working directory if it exists, or from `--config`.

```toml
scale_in = false           # whether a trade follows its strategy to a larger size; by symbol: [scale_in] AAPL = true

[policies]
outside_rth = false        # whether exits may fill outside regular trading hours (a future's always may)
unprotected = "hold"       # a stop that cannot be put back: "hold" the trade, or "flatten" it at market
unknown_exit = "block"     # an unknown exit: "block" re-entry on that side, or "allow"
protect_seconds = 10       # how long a stop may be missing before it is an alarm
inflight_seconds = 10      # an order may go unanswered this long before it is looked up

[limits]
max_open_trades = 3

[limits.max_quantity]      # largest size of one entry
EURUSD = 50000
AAPL = 100

[contracts.ES]             # symbols that need a contract: anything but forex pairs and US shares
sec_type = "FUT"
exchange = "CME"
currency = "USD"
expiry = "202612"

[contracts."VOD"]          # a symbol that TWS calls ambiguous
sec_type = "STK"
exchange = "SMART"
primary_exchange = "LSE"
currency = "GBP"
```

A contract has `sec_type`, `symbol` (IBKR's, where it differs), `exchange`, `primary_exchange`, `currency`, `expiry`,
`multiplier`, `con_id`; a `con_id` alone is enough.
"""


def render() -> str:
    """Return the page's text."""
    parts = [HEAD, "\n## Executor\n\n", _table(ExecutorSettings), TOML, "\n## Relay\n\n", _table(RelaySettings)]
    return "".join(parts)


def _table(cls: type[ProgramSettings]) -> str:
    lines = ["| flag | environment | default | |", "|---|---|---|---|"]
    return "\n".join([*lines, *map(_line, describe(cls))]) + "\n"


def _line(row: Row) -> str:
    flag = f"`{row.flag}`" if row.flag else ""
    env = ", ".join(f"`{name}`" for name in row.env) or "command line only"
    default = "**required**" if row.required else _default(row.default)
    text = row.help.replace("|", "\\|") + (" *Secret.*" if row.secret else "")
    return f"| {flag} | {env} | {default} | {text} |"


def _default(value: object) -> str:
    if value in ("", None, ()):
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{','.join(map(str, value)) if isinstance(value, tuple) else value}`"


if __name__ == "__main__":
    PAGE.write_text(render(), "utf-8", newline="\n")
