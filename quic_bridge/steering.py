"""Several processes on one UDP port: the kernel picks the socket by the connection id that each packet names.

The sockets share the port by SO_REUSEPORT. Left to itself the kernel picks by the sender's address, and an agent whose
NAT has given it another port would reach another worker, which does not know it. So a small classic-BPF program
looks at the first byte of the destination connection id, and each worker issues ids that lead back to it.
"""

import ctypes
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from .udp import bind

SO_ATTACH_REUSEPORT_CBPF = getattr(socket, "SO_ATTACH_REUSEPORT_CBPF", 51)
MAX_WORKERS = 64

# Opcodes of classic BPF: code, and with it what the operand k is.
LOAD_BYTE = 0x30  # A = packet[k]; beyond the packet's end the program returns 0
MODULO = 0x94  # A %= k
JUMP_IF_BITS = 0x45  # A & k: skip jt instructions, else jf
JUMP = 0x05  # skip k instructions
RETURN_A = 0x16


@dataclass(frozen=True, slots=True)
class Steering:
    """One of `workers` processes, counted from 0."""

    worker: int
    workers: int

    def steer(self, cid: bytes) -> bytes:
        """The connection id with a first byte that leads to this worker; as random as before, but for that."""
        first = cid[0] - cid[0] % self.workers + self.worker
        # The last, incomplete round of 256 would go beyond a byte.
        return bytes([first if first < 256 else first - self.workers]) + cid[1:]


def program(workers: int) -> bytes:
    """The instructions that return the number of the socket for a packet."""
    instructions = [
        (LOAD_BYTE, 0, 0, 0),
        (JUMP_IF_BITS, 0, 2, 0x80),  # a long header: the id stands behind flags, version and its own length
        (LOAD_BYTE, 0, 0, 6),
        (JUMP, 0, 0, 1),
        (LOAD_BYTE, 0, 0, 1),
        (MODULO, 0, 0, workers),
        (RETURN_A, 0, 0, 0),
    ]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)


def attach(sock: socket.socket, workers: int) -> None:
    """Have the kernel pick among the sockets that share this one's port. Raises OSError where it cannot."""
    code = ctypes.create_string_buffer(program(workers))
    count = len(code.raw) // 8
    sock.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, struct.pack("HP", count, ctypes.addressof(code))
    )


def bind_shared(host: str, port: int, workers: int) -> list[socket.socket]:
    """One socket for each worker on one port, in the order that the kernel counts them in.

    Raises OSError when the port is in use, or when the kernel does not share it."""
    sockets: list[socket.socket] = []
    try:
        # Sharing lets anybody of the same user in: make sure that no other bridge is there already.
        alone = bind(host, port)
        port = alone.getsockname()[1]
        alone.close()
        sockets.extend(bind(host, port, shared=True) for _ in range(workers))
        attach(sockets[0], workers)
    except OSError:
        _close(sockets)
        raise
    return sockets


def bind_consecutive(host: str, port: int, workers: int) -> list[socket.socket]:
    """One socket for each worker, on a port of its own. Raises OSError."""
    sockets: list[socket.socket] = []
    try:
        sockets.extend(bind(host, port and port + number) for number in range(workers))
    except OSError:
        _close(sockets)
        raise
    return sockets


def inherited(descriptor: int) -> socket.socket:
    """A worker's socket, which its parent has opened and keeps."""
    sock = socket.socket(fileno=os.dup(descriptor))
    sock.setblocking(False)
    return sock


def _close(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
