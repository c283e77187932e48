"""How fast, how much memory, beside whom: measurements of the runtime. `python -m benchmarks --help`."""
