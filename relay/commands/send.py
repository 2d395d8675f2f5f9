"""`python -m relay send`: post a signal from any system, without quoting."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from common.clock import SystemClock, utc_text
from common.secret import Secret
from common.settings import ProgramSettings, click_options, relay_address, setting, speaking
from common.version import user_agent
from relay.commands.alert_message import targets_of
from relay.settings import RelaySettings

if TYPE_CHECKING:
    import requests

# action -> its further arguments
_ARGUMENTS = {"open": ("side", "quantity"), "close": (), "protect": (), "reset": ()}


@dataclass(frozen=True, kw_only=True)
class SendSettings(ProgramSettings):
    """Where to send, and with which secret: the relay's own settings are understood."""

    env_prefix = "RELAY_"
    of_one_command = True
    url: str | None = setting(
        None, help="The relay's address; by default the one on this machine.", check=relay_address
    )
    port: int = setting(RelaySettings.port, help="The relay's port on this machine.", also_env=("PORT",))
    webhook_secrets: Secret = setting(help="The sender's secret; the first of a list is used.")


@click.command()
@click.argument("action", type=click.Choice(sorted(_ARGUMENTS)))
@click.argument("symbol")
@click.argument("rest", nargs=-1, metavar="[SIDE QUANTITY]")
@click.option("--tp", help="Take-profit: a price, or a distance such as 1.5%, 25 ticks or 2.5 points.")
@click.option("--sl", help="Stop-loss: likewise; with protect also entry.")
@click.option("--trail", help="Trailing stop: a distance; --sl is where it begins.")
@click.option("--target", "targets", multiple=True, help="In place of --tp, up to four times: 1.25=50 (percent).")
@click.option(
    "--breakeven", "breakeven_after_target", is_flag=True, help="The first target moves the stop to the entry."
)
@click.option("--quantity", help="With close: this much of the trade, not all of it.")
@click.option("--percent", help="With close: this share of the trade.")
@click.option("--loosen", is_flag=True, help="With protect: the stop may be moved away from the market.")
@click.option("--strategy-name", help="Whose signal it is: kept and shown.")
@click.option("--id", help="Duplicate key: the same id is accepted once.")
@click.option("--note", help="Shown with the signal.")
@click_options(SendSettings)
@speaking
def send(action: str, symbol: str, rest: tuple[str, ...], url: str | None, port: str | None, **options: Any) -> None:
    """Post one signal, such as: send open EURUSD buy 10000 --tp 1.20 --sl 1.18

    A close of a part carries the time, so that a second one is another.
    """
    settings = SendSettings.load({"url": url, "port": port})
    signal = _signal(action, symbol, rest, options)
    address = (settings.url or f"http://127.0.0.1:{settings.port}").rstrip("/")
    status, answer = _post(address + "/webhook", signal, settings.webhook_secrets.items()[0])
    _tell(status, answer)


def _signal(action: str, symbol: str, rest: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    names = _ARGUMENTS[action]
    if len(rest) != len(names):
        usage = " ".join(["send", action, "SYMBOL", *map(str.upper, names)])
        raise click.UsageError(f"expected: {usage}, was: {' '.join(['send', action, symbol, *rest])}")
    given = {name: value for name, value in options.items() if value not in (None, False, ())}
    if twice := [name for name in names if name in given]:
        raise click.UsageError(
            f"the {twice[0]} of an {action} is given by its place: send {action} SYMBOL SIDE QUANTITY"
        )
    if "targets" in given:
        given["targets"] = targets_of(given["targets"])
    if action == "close" and ("quantity" in given or "percent" in given):
        given["time"] = utc_text(SystemClock().now())
    return {"action": action, "symbol": symbol, **dict(zip(names, rest, strict=True)), **given}


def _post(url: str, signal: dict[str, Any], secret: str) -> tuple[int, dict[str, Any]]:
    """Return the relay's answer. The secret goes in the body, which unlike a header can hold any character."""
    import requests

    with requests.Session() as session:
        session.trust_env = False  # else ~/.netrc adds a credential of its own
        session.headers["User-Agent"] = user_agent("signal-relay")
        try:
            response = session.post(url, json={"secret": secret, **signal}, timeout=10, allow_redirects=False)
        except requests.RequestException as exc:
            raise click.ClickException(f"no answer from {url}: {_why(exc)}") from exc
    return response.status_code, _answer(url, response)


def _why(error: requests.RequestException) -> str:
    import requests

    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted"
    if isinstance(error, requests.Timeout):
        return "it took longer than 10 s; if you retry with the same --id, the signal is accepted once"
    return "nothing is listening there. Is the relay running, and is --url or --port right?"


def _answer(url: str, response: requests.Response) -> dict[str, Any]:
    """Return what a relay answered; anything else ends the command."""
    if response.is_redirect:
        raise click.ClickException(
            f"{url} redirects to {response.headers['Location'][:200]}: set --url to that address"
        )
    try:
        answer = response.json()
    except ValueError:  # no JSON: see below
        answer = None
    if not isinstance(answer, dict):
        raise click.ClickException(f"{url} answered {response.status_code}, but it is not a signal relay")
    return answer


def _tell(status: int, answer: dict[str, Any]) -> None:
    if status in (200, 202):
        click.echo(json.dumps(answer))
        return
    lines = [f"refused ({status} {answer.get('code')}): {answer.get('title')}. {answer.get('detail', '')}"]
    lines += [f"  {each.get('field')}: {each.get('message')}" for each in answer.get("problems", [])]
    raise click.ClickException("\n".join(lines))
