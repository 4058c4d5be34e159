"""Random tokens: 256 bits, shown once, kept as SHA-256 (a slow hash adds nothing to that much entropy)."""

import hashlib
import hmac
import secrets

ENROLLMENT_PREFIX = "qfe_"
CREDENTIAL_PREFIX = "qfc_"


def new_token(prefix: str) -> str:
    return prefix + secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def token_matches(token: str, hashed: str) -> bool:
    """Constant-time; an empty hash matches nothing."""
    return bool(hashed) and hmac.compare_digest(token_hash(token), hashed)
