"""A way to PostgreSQL over TCP that can freeze: connections stay, and are accepted, but nothing passes any more."""

import contextlib
import socket
import threading

from sqlalchemy.engine import make_url


class Forwarder:
    """Forwards a port of this machine to a server's Unix socket."""

    def __init__(self, url: str) -> None:
        """Forward to the PostgreSQL of `url`, which names the folder of its socket as `host`."""
        target = make_url(url)
        self._path = f"{target.query['host']}/.s.PGSQL.{target.port or 5432}"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._flowing = threading.Event()
        self._flowing.set()
        self._open: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []
        port = self._listener.getsockname()[1]
        self.url = f"postgresql+psycopg://{target.username}@127.0.0.1:{port}/{target.database}"
        self._start(self._accept)

    def freeze(self) -> None:
        """Let nothing pass."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Let everything pass, what waited as well."""
        self._flowing.set()

    def close(self) -> None:
        """Cut every connection."""
        self._flowing.set()
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for one in self._open:
            one.close()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._open.append(near)
                self._flowing.wait()
                far = socket.socket(socket.AF_UNIX)
                self._open.append(far)
                far.connect(self._path)
                self._start(self._pump, near, far)
                self._start(self._pump, far, near)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
