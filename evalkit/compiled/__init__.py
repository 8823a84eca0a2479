"""Inner loops in C, where they were compiled."""
