"""Plots of runs and of published tables, as PDF, SVG or PNG: a module per kind, with a function that draws it."""
