"""Everything of aioquic that is not its public interface, in one place.

Late acknowledgements make probe timeouts fire, and their retransmissions make everything later still: with the
stock values a bridge with thousands of agents does not leave that state again. So agents acknowledge at once,
and neither side counts on the other doing so.
"""

from __future__ import annotations

from typing import List

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from cryptography.x509 import Certificate

from quartzflow_agent.protocol.constants import ALPN_AGENT, IDLE_TIMEOUT

ACK_DELAY = 0.0  # seconds; ours
MAX_ACK_DELAY = 0.3  # seconds; granted to the other side before a probe is sent


def configuration() -> QuicConfiguration:
    """A client's configuration, without trust in anybody but the public authorities."""
    return QuicConfiguration(is_client=True, alpn_protocols=[ALPN_AGENT], idle_timeout=IDLE_TIMEOUT)


def tune(quic: QuicConnection) -> None:
    """Set the delays; again after the handshake, when the peer's transport parameters have overwritten them."""
    quic._ack_delay = ACK_DELAY
    quic._loss.max_ack_delay = MAX_ACK_DELAY


def peer_certificates(quic: QuicConnection) -> List[Certificate]:
    """What the server presented, its own certificate first; it has proved to hold that one's key."""
    own = quic.tls._peer_certificate
    return [] if own is None else [own, *quic.tls._peer_certificate_chain]
