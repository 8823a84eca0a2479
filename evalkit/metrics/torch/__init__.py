"""Fusion metrics of batches of tensors, on any device: the numbers of `evalkit.evaluate`, many images at a time."""

from evalkit.metrics.torch.sources import BatchScores, Sources, evaluate

__all__ = ["BatchScores", "Sources", "evaluate"]
