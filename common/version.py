"""The version of this release, in one place: both programs, the paper TWS and the package read it from here."""

VERSION = "0.1.0"


def user_agent(program: str) -> str:
    """Return what a program calls itself in the HTTP requests it makes.

    >>> user_agent("signal-relay").split("/")[0]
    'signal-relay'
    """
    return f"{program}/{VERSION}"
