"""Synthetic datasets without download: one of an organ with lesions, and trees with the names of published datasets."""

from deconvseg.data.demo.making import is_generated, list_demos, make_demo_dataset

__all__ = ["is_generated", "list_demos", "make_demo_dataset"]
