"""What one session may cost the bridge."""

from dataclasses import dataclass

from quartzflow_agent.protocol.constants import MAX_FRAME, OFFLINE_AFTER, REGISTER_TIMEOUT


@dataclass(frozen=True, slots=True)
class Limits:
    """Beyond any of these, the session is closed with a reason."""

    register_timeout: float = REGISTER_TIMEOUT  # seconds from the first packet to the REGISTER frame
    silence: float = OFFLINE_AFTER  # seconds without a frame
    first_frame: int = 64 * 1024  # bytes, of the REGISTER frame
    frame: int = MAX_FRAME  # bytes
    side_streams: int = 8  # open at once
    backlog: int = 32 * 1024 * 1024  # bytes written to the peer that it has not acknowledged
    # A bucket of frames: each costs 1, and 1 more for every 16 KiB; a pull costs PULL_COST.
    rate: float = 2_000  # refilled per second
    burst: float = 20_000


PULL_COST = 50
COST_UNIT = 16 * 1024  # bytes
