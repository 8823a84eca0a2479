"""Blocks that several fusion networks are made of."""
