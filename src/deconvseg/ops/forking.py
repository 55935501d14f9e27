"""Copies of this process: they compute with one thread, because the threads of OpenMP do not survive a fork."""

import os

import torch


def compute_alone_after_fork() -> None:
    """Give every process that is forked from this one a single thread of PyTorch's.

    OpenMP's threads exist in the parent only; the first parallel loop of a child would wait for them forever. Start
    processes anew ("spawn") where they are to have several threads.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_compute_alone)


def _compute_alone() -> None:
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)
