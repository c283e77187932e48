"""What runs a bundle's network: one file a library, chosen by `select`."""
