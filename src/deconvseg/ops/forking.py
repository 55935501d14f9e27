"""Forked processes compute with one thread, because OpenMP's threads do not survive a fork."""

import os

import torch


def compute_alone_after_fork() -> None:
    """Limit PyTorch to one thread in every process that is forked from this one.

    OpenMP's threads exist only in the parent, so the first parallel loop of a child would deadlock. Use the start
    method "spawn" for processes with several threads.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_compute_alone)


def _compute_alone() -> None:
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)
