"""The network, and its fixed spectral features."""
