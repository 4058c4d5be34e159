"""Numbers both sides of the wire agree on."""

from __future__ import annotations

ALPN_AGENT = "quartzflow-agent-v1"
ALPN_LEGACY = "quic-backbone-v1"
PROTOCOL_VERSION = 1
OLDEST_PROTOCOL = 1  # the earliest version that this side still speaks
CONFIG_PARTS = "config_parts"  # a configuration may come in parts
FEATURES = (CONFIG_PARTS,)  # what this agent understands beyond the first edition of its protocol version
RECORDS_WANTED = (
    "records wanted"  # the refusal of daily statistics that have more than the server has records of
)
DEFAULT_PORT = 8474  # UDP

MAX_FRAME = 10 * 1024 * 1024  # bytes of one encoded frame, without its length prefix

HEARTBEAT_INTERVAL = 15  # seconds between two PINGs of an agent
PONG_TIMEOUT = 5  # seconds an agent waits for the PONG
OFFLINE_AFTER = 45  # seconds of silence after which the server calls an agent offline
REGISTER_TIMEOUT = 5  # seconds a connection may stay unregistered
IDLE_TIMEOUT = 60  # seconds of silence after which QUIC itself drops the connection

OUTPUT_LIMIT = 10 * 1024  # bytes: how much of an output a result carries (its start)
ERROR_LIMIT = 2 * 1024  # bytes: how much of stderr a result carries (its end)

# Application error codes of CONNECTION_CLOSE; the reason phrase beside them is for people.
CLOSE_OK = 0
CLOSE_PROTOCOL = (
    1  # garbage, unknown or oversized frames; also what a legacy client gets for a wrong first frame
)
CLOSE_REGISTER_TIMEOUT = 2
CLOSE_REFUSED = 3  # the registration was answered with a refusal
CLOSE_SUPERSEDED = 4  # the same client id registered on a newer connection
CLOSE_GO_AWAY = 5  # the bridge stops: connect to another one
CLOSE_SILENT = 6  # no frame for OFFLINE_AFTER seconds
CLOSE_FLOOD = 7  # more frames or buffered bytes than allowed
CLOSE_REVOKED = 8  # an operator closed the session: the credential or the client was revoked
CLOSE_INTERNAL = 9  # our own error; try again later
