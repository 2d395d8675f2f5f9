"""Blocking calls away from the event loop, each in a thread that does not hold up the program's end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[..., T], *args: object, timeout: float | None = None) -> T:
    """Return what a blocking call returns, or raise what it raises; the loop goes on meanwhile.

    Unlike `asyncio.to_thread`, whose threads the program waits for at its end, the thread is left to itself when
    the caller is cancelled or the time is up: a long poll must not keep Ctrl-C waiting.

    Raises:
        TimeoutError: It took longer than `timeout` seconds; what it still does is ignored.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = call(*args)
        except BaseException as exc:
            error = exc
        if not loop.is_closed():
            loop.call_soon_threadsafe(finish, result, error)

    threading.Thread(target=run, name=getattr(call, "__name__", "call"), daemon=True).start()
    async with asyncio.timeout(timeout):
        return await future
