"""Benchmarks: `make bench`, or `make bench ONLY=name`. They run one after the other and write bench.json."""
