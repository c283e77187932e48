"""Evaluation of a bundle on generators and photos that its training never saw.

A bundle runs as it does for its users: with the runtime's windows, backend and mean over windows (`predict`).
"""
