"""Checks of a dataset before training: report, label values and leaks between splits."""
