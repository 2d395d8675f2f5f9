"""`python -m relay serve`."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import click

from common import garbage
from common.logs import configure, never_log
from common.secret import Secret
from common.settings import click_options, speaking
from relay.settings import RelaySettings


@click.command()
@click_options(RelaySettings)
@speaking
def serve(**flags: Any) -> None:
    """Serve the relay (this is the default)."""
    settings = RelaySettings.load(flags)
    configure("relay", json=settings.log_json)
    never_log(urlsplit(settings.queue_url).password or "", *(settings.alarm_urls or Secret("")).items())
    garbage.collect_at_rest()
    from relay.server import serve as run

    run(settings)
