"""Engines for a fleet: one recipe a device, compiled ahead of time where that can be, with a manifest that vouches for them."""
