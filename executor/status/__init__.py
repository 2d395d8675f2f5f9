"""The status page: what a trader keeps open all day. It reads the journal, and nothing else.

`create_app(journal_path, submit, settings)` makes it, `serve(app, host, port)` runs it in a thread.
"""

from .app import create_app
from .server import PageServer, serve
from .settings import PageSettings

__all__ = ["PageServer", "PageSettings", "create_app", "serve"]
