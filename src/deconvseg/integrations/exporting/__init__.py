"""Exported programs of networks, and what a reader needs beside them."""

from deconvseg.integrations.exporting.tracing import Members, Traced, trace

__all__ = ["Members", "Traced", "trace"]
