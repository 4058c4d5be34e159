"""How the text of an environment variable becomes a value. Each function raises ValueError saying what it expects."""

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import available_timezones

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def directory(text: str) -> Path:
    path = Path(text).expanduser().absolute()
    if path.exists() and not path.is_dir():
        raise ValueError("must be a directory")
    return path


def host(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        label = r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?"
        if not re.fullmatch(rf"{label}(\.{label})*\.?", text) or re.fullmatch(r"[\d.]+", text):
            raise ValueError("must be an IP address or a host name") from None
    return text


def port(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text, re.ASCII) or not 1 <= int(text) <= 65535:
        raise ValueError("must be a port number from 1 to 65535")
    return int(text)


def switch(text: str) -> bool:
    words = ("0", "false", "no", "off", "1", "true", "yes", "on")
    if text.lower() not in words:
        raise ValueError("must be 1 or 0")
    return words.index(text.lower()) > 3


def level(text: str) -> str:
    if text.upper() not in LOG_LEVELS:
        raise ValueError(f"must be one of {', '.join(LOG_LEVELS)}")
    return text.upper()


def hosts(text: str) -> tuple[str, ...]:
    hosts = tuple(part.strip() for part in text.split(",") if part.strip())
    for host in hosts:
        if not re.fullmatch(r"\*|\.?[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]", host):
            raise ValueError(
                f"must be host names separated by commas, without scheme or port; this is none: {host!r}"
            )
    return hosts


def origins(text: str) -> tuple[str, ...]:
    origins = tuple(part.strip() for part in text.split(",") if part.strip())
    for origin in origins:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query:
            raise ValueError(
                f"must be like https://quartz.example.com, separated by commas; this is none: {origin!r}"
            )
    return origins


def url(*schemes: str) -> Callable[[str], str]:
    expected = " or ".join(f"{scheme}://" for scheme in schemes)

    def parse(text: str) -> str:
        try:
            parts = urlsplit(text)
            complete = bool(parts.hostname or parts.path.strip("/")) and (
                parts.port is None or parts.port > 0
            )
        except ValueError:
            complete = False
        # The value is not shown: it may hold a password.
        if not complete or parts.scheme not in schemes:
            raise ValueError(f"must be a URL that begins with {expected}")
        return text

    return parse


def secret(text: str) -> str:
    if len(text) < 32:
        raise ValueError("must have 32 characters or more")
    return text


def number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,7}", text, re.ASCII) or not low <= int(text) <= high:
            raise ValueError(f"must be a number from {low} to {high}")
        return int(text)

    return parse


def limits(text: str) -> tuple[tuple[str, float], ...]:
    limits = []
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if not re.fullmatch(r"\d+(\.\d+)?", value, re.ASCII):
            raise ValueError(f"must be like rate=5000,silence=60; this is none: {part.strip()!r}")
        limits.append((name, float(value)))
    return tuple(limits)


def zone(text: str) -> str:
    if text not in available_timezones():
        raise ValueError("must be a time zone name such as Asia/Shanghai or UTC")
    return text


def sender(text: str) -> str:
    """The address that mail comes from."""
    if "@" not in text or any(ord(character) < 32 for character in text):
        raise ValueError(f"must be an e-mail address, not {text!r}")
    return text


def fernet_keys(text: str) -> tuple[str, ...]:
    keys = tuple(part.strip() for part in text.split(",") if part.strip())
    for key in keys:
        try:
            usable = len(base64.urlsafe_b64decode(key)) == 32
        except (binascii.Error, ValueError):
            usable = False
        if not usable:
            # The value is not shown.
            raise ValueError("must be Fernet keys (32 bytes in URL-safe Base64), separated by commas")
    return keys
