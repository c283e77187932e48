"""PyTorch side of edgeparse: the zoo of generators, the networks, training and evaluation. The runtime never imports it."""
