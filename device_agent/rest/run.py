"""The REST process: an HTTP server of threads over one channel, until it is told to end."""

from __future__ import annotations

import importlib.util
import os
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from device_agent.config import AgentConfig
from edge_sdk.base import ConflictError, RefusedError
from edge_sdk.rpc import Credentials, check_local, open_channel, refuse_live

BODY_BYTES_MAX = 16 << 20
_THREADS = 8
_CONNECTIONS_MAX = 64
_SOCKET_MODE = 0o600
_TICK_S = 1.0
_NICE = 5  # whoever serves comes first


def check_rest(config: AgentConfig) -> None:
    """Raises: RefusedError (a package is missing, or an address beyond this machine)."""
    if not config.rest_address:
        return
    check_local(config.rest_address, insecure=False)
    if importlib.util.find_spec("waitress") is None:
        raise RefusedError(
            "rest_address needs a package that is not installed: pip install "
            "'edge-model-sdk[rest]', or leave the setting out"
        )


def run_rest(
    config: AgentConfig,
    over: threading.Event,
    *,
    when_open: Callable[[str], None] = lambda address: None,
) -> None:
    """Until ``over`` is set. ``when_open`` hears where it listens.

    Raises: RefusedError, ConflictError (address in use).
    """
    check_rest(config)
    os.nice(_NICE)
    with RestServer(config.rest_address, config.inference_uri) as server:
        when_open(server.address)
        over.wait()


class RestServer:
    """Listens from its making to its end; ``address`` tells the port that 0 became."""

    def __init__(self, address: str, inference: str) -> None:
        """Raises: ConflictError, UsageError, RefusedError."""
        # Of the extra: imported where it is wanted.
        import waitress

        from device_agent.rest.application import Application

        check_local(address, insecure=False)
        refuse_live(address)
        self._channel = open_channel(inference, Credentials())
        application: Callable[..., Any] = Application(self._channel, address)
        try:
            self._listener = _listen(address)
        except OSError as error:
            self._channel.close()
            raise ConflictError(f"cannot listen on {address}: {error.strerror}") from None
        self._over = False
        self._sockets: dict[int, Any] = {}
        self._server = waitress.create_server(
            application,
            map=self._sockets,
            sockets=[self._listener],
            threads=_THREADS,
            connection_limit=_CONNECTIONS_MAX,
            max_request_body_size=BODY_BYTES_MAX,
            inbuf_overflow=BODY_BYTES_MAX,  # nothing on the device's disk
            outbuf_overflow=4 * BODY_BYTES_MAX,
            ident="edge-model-sdk",
            clear_untrusted_proxy_headers=True,
        )
        self.address = address
        if not address.startswith("unix:"):
            port = self._listener.getsockname()[1]
            self.address = f"{address.rpartition(':')[0]}:{port}"
        self._thread = threading.Thread(target=self._run, name="rest", daemon=True)
        self._thread.start()

    def __enter__(self) -> RestServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        """Waitress's own loop ends by an exception in the main thread only."""
        from waitress import wasyncore

        while not self._over:
            wasyncore.loop(_TICK_S, use_poll=True, map=self._sockets, count=1)
        self._server.task_dispatcher.shutdown()
        wasyncore.close_all(self._sockets, ignore_all=True)

    def close(self) -> None:
        self._over = True
        self._server.pull_trigger()
        self._thread.join()
        self._channel.close()
        if self.address.startswith("unix:"):
            Path(self.address.removeprefix("unix:")).unlink(missing_ok=True)


def _listen(address: str) -> socket.socket:
    if not address.startswith("unix:"):
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family)
    path = Path(address.removeprefix("unix:"))
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        path.unlink()  # nobody listens there: that was looked at before
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Before bind, so that there is no moment at which others could connect.
        os.fchmod(listener.fileno(), _SOCKET_MODE)
        listener.bind(str(path))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener
