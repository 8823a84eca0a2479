"""The world of the sample scenes: a camera over a street, and painters for everything that stands in it."""
