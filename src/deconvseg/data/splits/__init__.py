"""Training, validation and test splits from files, and cross-validation folds from cases."""
