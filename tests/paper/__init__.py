"""The paper TWS, judged by client libraries that are not ours."""

import executor.tws.client  # noqa: F401 - ib_insync is imported below, and Python 3.14 lets only this module import it first
