"""Tables of papers by one call: protocols, their cells and the result."""
