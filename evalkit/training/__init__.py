"""Training fusion networks: losses, data and schedules, on PyTorch."""
