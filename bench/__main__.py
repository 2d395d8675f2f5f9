"""`make bench`: measure, side by side in one run, and print medians and 99th percentiles.

python -m bench [order|first|open|journal|burst|idle|page|relay|queue ...] [--write]
"""

from __future__ import annotations

import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from bench import growth_speed, history, order_speed, page_speed, queue_speed, relay_speed, report

PARTS = {
    "order": order_speed.measure,
    "targets": order_speed.measure_targets,
    "first": order_speed.measure_firsts,
    "open": growth_speed.measure_open,
    "journal": growth_speed.measure_journal,
    "burst": growth_speed.measure_burst,
    "idle": page_speed.measure_idle,
    "page": page_speed.measure_page,
    "relay": relay_speed.measure,
    "queue": queue_speed.measure,
}
PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice([*PARTS]))
@click.option("--write", is_flag=True, help="Put the figures into docs/performance.md.")
@click.option("--journal", type=click.Path(exists=True, path_type=Path), help="A journal that bench.history made.")
def main(parts: tuple[str, ...], write: bool, journal: Path | None) -> None:
    """Measure all parts, or those named."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started ends with us
    if journal:
        history.given.append(journal.resolve())
    rows = report.show(row for part in parts or PARTS for row in PARTS[part]())
    if write:
        report.write(PAGE, rows, f"{datetime.now(UTC):%Y-%m-%d}")


if __name__ == "__main__":
    main(prog_name="make bench")
