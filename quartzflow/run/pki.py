"""The private certificate authority and the bridge's certificate that it signs."""

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from quartzflow_agent.files import PRIVATE_DIRECTORY, write_atomic

from quartzflow.env import own_addresses

AUTHORITY = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Quartz-Flow private CA")])
AUTHORITY_DAYS = 7300  # it is never replaced: every agent would have to join anew
SERVER_DAYS = 397  # what TLS clients accept at most
RENEW_DAYS = 30  # this long before its end a certificate is made anew
PUBLIC_FILE = 0o644
BACKDATE = timedelta(hours=1)  # hosts whose clocks are behind


@dataclass(frozen=True)
class Pki:
    """The files in `<data dir>/pki`."""

    directory: Path

    @property
    def ca(self) -> Path:
        """What agents are given to trust."""
        return self.directory / "ca.pem"

    @property
    def ca_key(self) -> Path:
        return self.directory / "ca.key"

    @property
    def server(self) -> Path:
        """The bridge's certificate, followed by the authority's."""
        return self.directory / "server.pem"

    @property
    def server_key(self) -> Path:
        return self.directory / "server.key"


def own_names(*more: str) -> list[str]:
    """Every name and address under which agents may reach this machine."""
    names = ["localhost", "127.0.0.1", "::1", socket.gethostname(), socket.getfqdn(), *own_addresses(), *more]
    return list(dict.fromkeys(name.rstrip(".").lower() for name in names if name))


class PkiError(Exception):
    """A certificate is needed that cannot be made; the message says why."""


def ensure(directory: Path, names: Iterable[str], now: datetime) -> list[str]:
    """Make what is missing; make the bridge's certificate anew when it is about to expire or lacks one of `names`.

    A certificate that another authority has signed is the operator's own and left alone. Returns a line for each
    thing made. Raises PkiError where the authority's key is gone that is needed, ValueError for a damaged file."""
    pki = Pki(directory)
    directory.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
    made = []
    if not pki.ca.exists():
        _make_authority(pki, now)
        made.append(f"made a private certificate authority: {pki.ca}")
    authority = _load(pki.ca)
    server = _load(pki.server) if pki.server.exists() else None
    if server is not None and server.issuer != authority.subject:
        return made
    wanted = set(names)
    if server is not None and _signed_by(server, authority) and pki.server_key.exists():
        known = _names_of(server)
        if wanted <= known and server.not_valid_after_utc - now >= timedelta(days=RENEW_DAYS):
            return made
        # Addresses come and go with the networks a laptop is in: what an agent may have been given stays.
        wanted |= known
    if not pki.ca_key.exists():
        raise PkiError(
            f"the bridge needs a new certificate, and the authority's key is not here: {pki.ca_key}"
        )
    _make_server(pki, authority, wanted, now)
    made.append(f"made a certificate for the bridge: {pki.server}")
    return made


def fingerprint(path: Path) -> str:
    """The SHA-256 of the first certificate in the file, in hexadecimal, as `quicflow agent join` takes it."""
    return x509.load_pem_x509_certificate(path.read_bytes()).fingerprint(hashes.SHA256()).hex()


def _load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _names_of(certificate: x509.Certificate) -> set[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = names.get_values_for_type(x509.IPAddress)
    return set(names.get_values_for_type(x509.DNSName)) | {str(address) for address in addresses}


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _make_authority(pki: Pki, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(AUTHORITY, AUTHORITY, key.public_key(), now, AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    usage = dict.fromkeys(_USAGES, False) | {"key_cert_sign": True, "crl_sign": True}
    builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    write_atomic(pki.ca_key, _private(key))
    write_atomic(pki.ca, certificate.public_bytes(serialization.Encoding.PEM), mode=PUBLIC_FILE)


def _make_server(pki: Pki, authority: x509.Certificate, names: set[str], now: datetime) -> None:
    ca_key = serialization.load_pem_private_key(pki.ca_key.read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)  # noqa: S101 (ours)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Quartz-Flow bridge")])
    builder = _builder(subject, authority.subject, key.public_key(), now, SERVER_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    usage = dict.fromkeys(_USAGES, False) | {"digital_signature": True}
    builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    alternatives = x509.SubjectAlternativeName([_general_name(name) for name in sorted(names)])
    builder = builder.add_extension(alternatives, critical=False)
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    certificate = builder.add_extension(issuer, critical=False).sign(ca_key, hashes.SHA256())
    # The authority's certificate goes along, so that agents may also pin that one by its SHA-256.
    chain = [each.public_bytes(serialization.Encoding.PEM) for each in (certificate, authority)]
    write_atomic(pki.server_key, _private(key))
    write_atomic(pki.server, b"".join(chain), mode=PUBLIC_FILE)


_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
