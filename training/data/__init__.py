"""Pictures: their sources, index, splits, augmentation and batches."""
