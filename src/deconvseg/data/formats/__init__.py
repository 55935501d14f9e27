"""File formats: one file for each, its decoding, and what decoders share."""
