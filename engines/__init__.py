"""Engines for a fleet of devices: one recipe per device, compiled ahead of time where possible, with a manifest."""

import edgeparse as edgeparse  # Switches off telemetry before an inference library is imported.
