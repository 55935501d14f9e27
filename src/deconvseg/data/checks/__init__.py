"""A look at a dataset before anything is learnt from it: its report, its labels, its leaks."""
