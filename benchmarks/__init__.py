"""How fast, how much memory, beside whom: measurements of the runtime."""
