"""Measure the runtime's speed and memory, next to other networks and runtimes. See `python -m benchmarks --help`."""
