"""Whether the server is the right one. There is no way to switch this off."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

from aioquic.quic.configuration import QuicConfiguration
from aioquic.tls import Alert, verify_certificate
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate

from quartzflow_agent.i18n import _


class TrustError(Exception):
    """The server is not the one we were told to trust."""


@dataclass(frozen=True)
class Trust:
    """Whom to believe: an authority's file, or a certificate's SHA-256; neither: the public authorities."""

    ca_file: Optional[Path] = None
    sha256: str = ""

    def apply(self, configuration: QuicConfiguration) -> None:
        """Tell TLS. With a pinned certificate it has nothing to check: `check` does."""
        if self.sha256:
            configuration.verify_mode = ssl.CERT_NONE
        elif self.ca_file is not None:
            configuration.load_verify_locations(cafile=str(self.ca_file))

    def check(self, certificates: List[Certificate], server_name: str) -> None:
        """After the handshake and before anything is sent: raise TrustError for a server that is not pinned.

        The pin may be that of the server's own certificate, or of an authority that it sends along; then the
        server's name and validity count, as with a CA file.
        """
        if not self.sha256:
            return
        pins = [certificate.fingerprint(SHA256()).hex() for certificate in certificates]
        if pins and pins[0] == self.sha256:
            return
        if self.sha256 not in pins:
            raise TrustError(
                _(
                    "The server's certificate has another SHA-256 ({found}) than the one to trust: "
                    "compare it with the server's own, and mind who may sit in between."
                ).format(found=pins[0] if pins else "-")
            )
        authority = certificates[pins.index(self.sha256)]
        try:
            verify_certificate(
                certificates[0],
                chain=certificates[1:],
                server_name=server_name,
                cadata=authority.public_bytes(Encoding.PEM),
            )
        except Alert as error:
            raise TrustError(
                _("The server's certificate does not hold: {error}").format(error=error)
            ) from error
