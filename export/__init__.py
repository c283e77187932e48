"""From a trained network to a bundle that the runtime opens: ONNX, parity, quantisation, calibration, manifest."""
