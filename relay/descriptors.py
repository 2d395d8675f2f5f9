"""Room for connections: each takes a file descriptor, and most systems give a process 1,024 unless it asks."""

from __future__ import annotations

CONNECTIONS = 2048
OWN_FILES = 200  # the database, PostgreSQL's connections, polls' wake-ups, alarms going out


def most_connections() -> int:
    """Return how many connections may be open at once, after asking the system for enough descriptors.

    Without this a thousand silent strangers take the last one: nothing can be accepted, and no file opened.
    With it the connection that was silent for longest is dropped before.
    """
    import resource  # there is none on Windows, which is not served by this

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return CONNECTIONS
    if soft < CONNECTIONS + OWN_FILES:
        wanted = CONNECTIONS + OWN_FILES
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(128, min(CONNECTIONS, soft - OWN_FILES))
