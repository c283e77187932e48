"""Measure how long a report takes on this machine."""
