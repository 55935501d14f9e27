"""Other software: a room each, and ``exporting/`` for what they share."""
