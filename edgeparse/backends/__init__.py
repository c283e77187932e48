"""Libraries that run a bundle's network: one module per library, chosen by `select`."""
