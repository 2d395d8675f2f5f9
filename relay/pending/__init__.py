"""The pending queue: where an accepted signal waits for its executor."""

from __future__ import annotations

from urllib.parse import unquote

from relay.pending.base import DEFAULT_MAX_DEPTH, Pending


def open_pending(url: str, *, max_depth: int = DEFAULT_MAX_DEPTH) -> Pending:
    """Return the queue behind `url`: `sqlite:///file`, `sqlite:////absolute/file` or `postgresql://…`.

    Never fails because the database is away: the methods then raise
    QueueUnavailable until it is back.

    Raises:
        ValueError: The URL names no engine we have, or the engine's library is
            not installed; the message says how to fix it.
    """
    if path := sqlite_file(url):
        from relay.pending.sqlite import SqlitePending

        return SqlitePending(path, max_depth=max_depth)
    scheme = url.partition(":")[0]
    if scheme in ("postgresql", "postgres"):
        return _open_postgres(url, max_depth)
    raise ValueError(f"the queue URL must be sqlite:///FILE or postgresql://HOST/DATABASE, was {scheme or 'empty'}:…")


def sqlite_file(url: str) -> str:
    """Return the file that a `sqlite:///` URL names, "" for any other URL.

    >>> sqlite_file("sqlite:///my%20queue.db"), sqlite_file("postgresql://host/queue")
    ('my queue.db', '')
    """
    return unquote(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else ""


def _open_postgres(url: str, max_depth: int) -> Pending:
    try:
        from relay.pending.postgres import PostgresPending
    except ImportError as exc:
        raise ValueError("a postgresql:// queue needs psycopg: pip install 'signal-executor[postgres]'") from exc
    return PostgresPending(url, max_depth=max_depth)
