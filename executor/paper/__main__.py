"""`python -m executor.paper`: the built-in paper TWS on a TCP port."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from common.cli import version_option
from common.clock import SystemClock
from executor.paper import contracts, scenario
from executor.paper.control import ControlServer
from executor.paper.exchange import Exchange
from executor.paper.server import LOOPBACK, PaperServer
from executor.paper.store import FileStore, NoStore, StoreError
from executor.paper.truth import Truth


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    host: str
    port: int
    control_port: int | None
    seed: int
    volatility: float
    quiet: bool
    state: Path | None
    truth: Path | None
    scenario: Path | None
    contracts: Path | None
    accounts: list[str]


_FILE = click.Path(path_type=Path, dir_okay=False)
_PORT = click.IntRange(0, 65535)


def _names(context: click.Context, option: click.Parameter, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise click.BadParameter("expected at least one account, such as DU1234567")
    return names


@click.command()
@version_option("paper-tws")
@click.option("--host", default=LOOPBACK, show_default=True, help="Address to listen on.")
@click.option("--port", default=7497, show_default=True, type=_PORT, help="TWS API port; 0: a free one.")
@click.option(
    "--control-port", type=_PORT, help="Port that moves prices and reads the books, on loopback; 0: a free one."
)
@click.option("--seed", default=1, show_default=True, help="Seed of the random walk.")
@click.option(
    "--volatility",
    default=0.3,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Chance of a one-tick move per second; 0: prices stand still.",
)
@click.option("--quiet", is_flag=True, help="Print only the ready line.")
@click.option("--state", type=_FILE, help="Keep orders, positions and ids in this file, across restarts.")
@click.option("--truth", type=_FILE, help="Append what was accepted and filled to this file, as JSON lines.")
@click.option("--scenario", type=_FILE, help="Steps to play: triggers and faults (TOML or JSON).")
@click.option("--contracts", type=_FILE, help="More instruments, such as futures (TOML or JSON).")
@click.option(
    "--accounts",
    default="DU1234567",
    show_default=True,
    callback=_names,
    help="Accounts of the login, comma-separated.",
)
def main(**options: object) -> None:
    """Run a paper TWS that any TWS API client can connect to."""
    try:
        failure = asyncio.run(run(Options(**options)))  # type: ignore[arg-type]  # click has checked them
    except KeyboardInterrupt:
        return
    except (contracts.ContractError, scenario.ScenarioError, StoreError) as error:
        sys.exit(f"paper TWS: {error}")
    except OSError as error:
        sys.exit(f"paper TWS: cannot start: {_reason(error, options['port'])}")
    if failure:
        sys.exit(f"paper TWS: ended, because it can no longer save or report anything: {failure}")


def _reason(error: OSError, port: object) -> str:
    if error.filename:
        return f"{error.filename}: {error.strerror}"
    return f"{error.strerror or error}; is another TWS running on port {port}?"


async def run(options: Options) -> str:
    """Serve until told to stop; return why if it had to end by itself.

    Raises:
        OSError, ContractError, ScenarioError, StoreError: It cannot start.
    """
    server = build(options)
    server.gateway.on_note = lambda text: click.echo(f"paper TWS: {text}", err=True)
    control = ControlServer(server) if options.control_port is not None else None
    over = asyncio.Event()
    server.stopping = over.set
    if options.scenario:
        scenario.play(server, scenario.load(options.scenario))
    await server.start(options.host, options.port)
    if control:
        await control.start(options.control_port or 0)
    if not options.quiet:
        click.echo(
            f"Accounts {', '.join(options.accounts)}; trades {len(list(server.exchange.floor.catalog))} instruments."
        )
    click.echo(f"paper TWS ready port={server.port} control={control.port if control else 'none'}")
    for name in (signal.SIGINT, signal.SIGTERM):
        try:
            asyncio.get_running_loop().add_signal_handler(name, over.set)
        except NotImplementedError:  # Windows: Ctrl-C arrives as KeyboardInterrupt
            break
    await over.wait()
    if control:
        await control.stop()
    await server.stop()
    return server.failure


def build(options: Options) -> PaperServer:
    """Put the parts together."""
    more = contracts.load(options.contracts) if options.contracts else []
    exchange = Exchange(
        SystemClock(),
        accounts=options.accounts,
        seed=options.seed,
        volatility=options.volatility,
        instruments=[*contracts.BUILT_IN, *more],
        truth=Truth(options.truth),
        store=FileStore(options.state) if options.state else NoStore(),
    )
    return PaperServer(exchange)


if __name__ == "__main__":
    main()
