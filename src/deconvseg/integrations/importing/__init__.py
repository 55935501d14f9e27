"""What imports of trained models share: checkpoints that are read without unpickling objects, and runs made of them."""
