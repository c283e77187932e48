"""PyTorch side of edgeparse: the zoo of generators, the networks, training and evaluation. Never imported by the runtime."""
