"""Benchmarks: `python -m tests.bench.run`. Nothing here is a test; a timing never decides whether CI is green."""
