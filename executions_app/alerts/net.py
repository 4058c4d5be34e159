"""Where messages may go: public addresses, and those that an administrator allows."""

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from quartzflow.system_settings import Setting, register


def _networks(lines: list[str]) -> list[str]:
    """Raises ValueError with words for a line that is no network."""
    for line in lines:
        try:
            ipaddress.ip_network(line, strict=False)
        except ValueError:
            raise ValueError(_("Not an address or a network: %(text)s.") % {"text": line}) from None
    return lines


ALLOWED: Setting[list[str]] = register(
    Setting(
        name="alert_networks",
        section="alerts",
        kind=list,
        default=list,
        label=_lazy("Private networks that alerts may go to"),
        help=_lazy(
            "One address or network (10.1.0.0/16) a line. Messages to private, local and link-local addresses are"
            " refused otherwise."
        ),
        check=_networks,
    )
)


class Refused(Exception):
    """The target is not one that messages may go to; the text says why, to people."""


@dataclass(frozen=True)
class Target:
    """Where a request goes."""

    scheme: str
    host: str
    port: int
    address: str  # of the host, looked up once and used for the request


def resolve(url: str) -> Target:
    """The target of an HTTP URL, with an address that is allowed. Raises Refused.

    Every address of the host must be allowed: otherwise it would be a matter of luck which one is taken.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Refused(_("Not a URL.")) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Refused(_("Must begin with https:// or http:// and name a host."))
    if parts.username is not None or parts.password is not None:
        raise Refused(_("The URL must hold no user name and no password."))
    port = port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Refused(_("The host cannot be found: %(host)s.") % {"host": parts.hostname}) from None
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    for address in addresses:
        if not is_allowed(address):
            raise Refused(
                _(
                    "%(host)s is %(address)s, which is not public. An administrator may allow it in the settings."
                )
                % {"host": parts.hostname, "address": address}
            )
    return Target(parts.scheme, parts.hostname, port, addresses[0])


def is_allowed(address: str) -> bool:
    """Whether messages may go to this address: it is public unicast, or a setting allows it."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    ip = mapped or ip
    networks = [ipaddress.ip_network(line, strict=False) for line in ALLOWED.value]
    if any(ip.version == network.version and ip in network for network in networks):
        return True
    in_nat64 = ip.version == 6 and ip in ipaddress.ip_network("64:ff9b::/96")
    return ip.is_global and not ip.is_multicast and not in_nat64
