"""Layouts of datasets: one file for each, what they share, and which layout a path has."""
