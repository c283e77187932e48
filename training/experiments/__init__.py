"""Experiments on accuracy: ablations over folds and seeds, the published network, and single parts of ours."""
