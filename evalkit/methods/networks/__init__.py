"""Fusion networks, one file a system, on PyTorch."""
