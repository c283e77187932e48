"""From a trained network to a bundle that the runtime opens: ONNX, parity, quantisation, calibration, manifest."""

import edgeparse as edgeparse  # Switches off telemetry before an inference library is imported.
