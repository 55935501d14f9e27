"""Which cases train, which choose and which test: splits from files, folds from cases."""
