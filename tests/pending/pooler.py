"""A small transaction pooler for PostgreSQL, as hosted databases put in front of the server.

A client gets a server connection for one transaction and any other for the
next, so nothing that lasts longer than a transaction survives: LISTEN,
session settings, prepared statements. What the server says outside a
transaction reaches nobody. Trusting servers only; no TLS.
"""

from __future__ import annotations

import contextlib
import queue
import select
import socket
import struct
import threading

MAX_SERVERS = 3


class TransactionPooler:
    """Listens on a free port; one thread a client."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._idle: dict[bytes, queue.LifoQueue[Server]] = {}
        self._guard = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> TransactionPooler:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, struct.error):
            startup = read_startup(client)
            if b"options\0" in startup:
                client.sendall(error("unsupported startup parameter: options"))
                return
            servers = self._servers(startup)
            client.sendall(servers.queue[0].greeting)
            while True:
                first = read_message(client)
                if first[:1] == b"X":
                    return
                server = servers.get()
                server.relay_transaction(client, first)
                servers.put(server)

    def _servers(self, startup: bytes) -> queue.LifoQueue[Server]:
        with self._guard:
            if startup not in self._idle:
                self._idle[startup] = queue.LifoQueue()
                for _ in range(MAX_SERVERS):
                    server = Server(self._server_port, startup)
                    self._sockets.append(server.socket)
                    self._idle[startup].put(server)
            return self._idle[startup]


class Server:
    """One connection to the server, lent for a transaction at a time."""

    def __init__(self, port: int, startup: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(startup)
        self._in_sequence = False  # after Parse, Bind, ... and before their Sync
        self.greeting, message = b"", b""
        while message[:1] != b"Z":
            message = read_message(self.socket)
            self.greeting += message

    def relay_transaction(self, client: socket.socket, first: bytes) -> None:
        """Pass messages both ways until the server is idle and owes no more answers."""
        self._drop_unasked()
        owed = self._forward(first)
        state = b"?"
        while owed or state != b"I":
            readable, _, _ = select.select([client, self.socket], [], [])
            if client in readable:
                owed += self._forward(read_message(client))
            if self.socket in readable:
                answer = read_message(self.socket)
                client.sendall(answer)
                if answer[:1] == b"Z":
                    owed, state = owed - 1, answer[5:6]

    def _forward(self, message: bytes) -> int:
        """Send a client's message on; return how many times the server will say that it is ready for it.

        A message that asks for no such word still owes one: its Sync must follow.
        """
        self.socket.sendall(message)
        asks = message[:1] in b"SQ"
        owed = int(not self._in_sequence)
        self._in_sequence = not asks
        return owed

    def _drop_unasked(self) -> None:
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self.socket.recv(65536):
                pass
        self.socket.setblocking(True)


def error(text: str) -> bytes:
    body = b"SFATAL\0C08P01\0M" + text.encode() + b"\0\0"
    return b"E" + struct.pack("!I", len(body) + 4) + body


def read_startup(client: socket.socket) -> bytes:
    length = client.recv(4, socket.MSG_WAITALL)
    return length + client.recv(struct.unpack("!I", length)[0] - 4, socket.MSG_WAITALL)


def read_message(one: socket.socket) -> bytes:
    head = one.recv(5, socket.MSG_WAITALL)
    size = struct.unpack("!I", head[1:])[0] - 4
    return head + (one.recv(size, socket.MSG_WAITALL) if size else b"")
