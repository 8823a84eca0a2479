"""A run as one HTML file that needs nothing else: tables, ranks, plots, images, set-up, versions."""
