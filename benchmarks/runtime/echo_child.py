"""``python -m benchmarks.runtime.echo_child PATH``: sends each packet back. The floor.

No header is read, nothing is computed: what a round trip over a SEQPACKET socket costs
between two Python processes and nothing else.
"""

from __future__ import annotations

import socket
import sys

PACKET_BYTES = 64


def main() -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(sys.argv[1])
    listener.listen()
    print("ready", flush=True)
    peer, _ = listener.accept()
    buffer = bytearray(PACKET_BYTES)
    while peer.recv_into(buffer):
        peer.send(buffer)


if __name__ == "__main__":
    main()
