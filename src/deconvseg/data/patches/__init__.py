"""Training patches: sampling from cases and random augmentation."""
