"""Convert datasets to the layouts of other tools: one module per layout that is written, and their shared code."""
