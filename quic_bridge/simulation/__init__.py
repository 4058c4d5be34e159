"""Simulated agents for load tests: real QUIC and the real protocol, nothing behind it. The bridge does not use this."""
