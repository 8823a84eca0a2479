"""One module per method: its parts, its losses by stage, and how the trained network fuses."""
