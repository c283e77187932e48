"""Training: losses, optimizer, trainer, and the heads that are fitted last."""
