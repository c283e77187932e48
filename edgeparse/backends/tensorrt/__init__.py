"""TensorRT and TensorRT for RTX: build engines, keep them, and run them."""
