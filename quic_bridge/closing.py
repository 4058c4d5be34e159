"""How and why a session ends."""

from dataclasses import dataclass

from quartzflow_agent.protocol.constants import CLOSE_PROTOCOL


class PeerError(Exception):
    """The agent broke a rule of the protocol, or went beyond a limit; closes the session."""

    def __init__(self, reason: str, code: int = CLOSE_PROTOCOL, limit: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.limit = limit


@dataclass(frozen=True, slots=True)
class Close:
    """How a session ends: application error code, a reason for people, and the limit (`Limits`) that did it."""

    code: int
    reason: str
    limit: str = ""
