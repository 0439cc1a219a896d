"""The REST process: an HTTP server of threads over one channel, until it is told to end."""

from __future__ import annotations

import importlib.util
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from device_agent.access import OWNER, Access, AppTokens, Guard, OwnSocket, access_of, own_token
from device_agent.config import AgentConfig
from edge_sdk.base import ConflictError, EdgeError, RefusedError
from edge_sdk.rpc import Credentials, check_local, open_channel

BODY_BYTES_MAX = 16 << 20
_THREADS = 8
_CONNECTIONS_MAX = 64
_TICK_S = 1.0
_NICE = 5  # whoever serves comes first


def check_rest(config: AgentConfig) -> None:
    """Raises: RefusedError (a package is missing, or an address beyond this machine)."""
    if not config.rest_address:
        return
    check_local(config.rest_address)
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
    state = Path(config.state_dir)
    unix = config.rest_address.startswith("unix:")
    with RestServer(
        config.rest_address,
        config.inference_uri,
        access=access_of(config.local.infer_group),
        guard=None if unix else Guard(tokens=AppTokens(state)),
        token="" if config.inference_uri.startswith("unix:") else own_token(state),
    ) as server:
        when_open(server.address)
        over.wait()


class RestServer:
    """Listens from its making to its end; ``address`` tells the port that 0 became."""

    def __init__(
        self,
        address: str,
        inference: str,
        *,
        access: Access = OWNER,
        guard: Guard | None = None,
        token: str = "",
    ) -> None:
        """``access``: who may connect to a socket; ``guard``: what a call has to show, None:
        nothing; ``token``: what calls of inference show.

        Raises: ConflictError, UsageError, RefusedError, NotFoundError.
        """
        # Of the extra: imported where it is wanted.
        import waitress

        from device_agent.rest.application import Application

        check_local(address)
        self._own = OwnSocket(address, access)
        self._channel = open_channel(inference, Credentials(token=token or None))
        application: Callable[..., Any] = Application(self._channel, address, guard)
        try:
            self._listener = _listen(self._own)
        except (OSError, EdgeError) as error:
            self._channel.close()
            self._own.close()
            if isinstance(error, EdgeError):
                raise
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
        self._own.close()


def _listen(own: OwnSocket) -> socket.socket:
    if not own.address.startswith("unix:"):
        host, _, port = own.address.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(own.bind_path))
        listener.listen()
        own.show()
    except BaseException:
        listener.close()
        raise
    return listener
