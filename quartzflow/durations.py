"""Durations as people read them."""


def milliseconds(value: int | None) -> str:
    """A duration in ms as people read it: 350 ms, 2.4 s, 3 m 05 s, 1 h 02 m."""
    if value is None:
        return "—"
    if value < 1000:
        return f"{value} ms"
    seconds = value / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} m"
