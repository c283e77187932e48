"""A zoo of generators that this project builds and trains itself, so that every label is exact.

A `Config` (drawn from the declared search space) becomes a trained module, the module is inspected for its labels,
and its pictures go into one file. `python -m training zoo build --help` says how.
"""
