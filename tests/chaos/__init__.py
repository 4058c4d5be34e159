"""Chaos: real agents whose links are cut and whose processes are killed, while tasks fire."""
