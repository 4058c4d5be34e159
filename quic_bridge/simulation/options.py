"""What a simulation is told, and what it counts."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Options:
    """What the agents of one process do."""

    endpoints: tuple[
        tuple[str, int], ...
    ]  # host and UDP port of bridges; agents spread over them and fail over
    ca: bytes | None  # PEM of the authority to believe; None: the public ones
    token: str  # enrollment token
    prefix: str  # client ids are PREFIX-00001, PREFIX-00002, …
    first: int = 1
    count: int = 1
    rate: float = 200.0  # new connections a second
    exec_ms: int = 0  # duration of each execution; 0: ends at once
    fail_rate: float = 0.0  # share of executions that fail
    flap: float = 0.0  # share of agents that lose their connection each minute
    seed: int | None = None


@dataclass
class Stats:
    """Totals of one process, or of all together."""

    online: int = 0  # registered now
    connections: int = 0  # begun
    registrations: int = 0  # accepted
    refused: int = 0
    lost: Counter[str] = field(default_factory=Counter)  # sessions and attempts that ended, by reason
    pongs: int = 0
    configs: int = 0  # configurations applied
    instructions: int = 0  # that came, copies included
    duplicates: int = 0  # instructions that came again
    executed: int = 0
    failed: int = 0  # of those executed, by wish
    cancelled: int = 0
    acknowledged: int = 0  # results that the server has committed
    results_refused: int = 0
    unacknowledged: int = 0  # results that wait for the server now
    last_instruction: float = 0.0  # Unix time, seconds
    ack_ms: list[float] = field(default_factory=list)  # from each result to its acknowledgement

    def __iadd__(self, other: "Stats") -> "Stats":
        for name, value in vars(other).items():
            if name == "last_instruction":
                self.last_instruction = max(self.last_instruction, value)
            else:
                setattr(self, name, getattr(self, name) + value)
        return self

    def summary(self) -> dict[str, object]:
        """The totals, with percentiles in the place of the single times."""
        found: dict[str, object] = {
            name: value for name, value in vars(self).items() if name not in ("ack_ms", "last_instruction")
        }
        times = sorted(self.ack_ms)
        for percent in (50, 99):
            found[f"ack_ms_p{percent}"] = (
                round(times[min(len(times) * percent // 100, len(times) - 1)], 1) if times else None
            )
        found["lost"] = dict(self.lost.most_common())
        return found
