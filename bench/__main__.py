"""`make bench`: measure, side by side in one run, and print medians and 99th percentiles.

python -m bench [order|relay|queue ...] [--write]
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from bench import order_speed, queue_speed, relay_speed, report

PARTS = {"order": order_speed.measure, "relay": relay_speed.measure, "queue": queue_speed.measure}
PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice([*PARTS]))
@click.option("--write", is_flag=True, help="Put the figures into docs/performance.md.")
def main(parts: tuple[str, ...], write: bool) -> None:
    """Measure all parts, or those named."""
    rows = report.show(row for part in parts or PARTS for row in PARTS[part]())
    if write:
        report.write(PAGE, rows, f"{datetime.now(UTC):%Y-%m-%d}")


if __name__ == "__main__":
    main(prog_name="make bench")
