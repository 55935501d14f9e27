"""Patches for training: how they are drawn from cases and how they are changed at random."""
