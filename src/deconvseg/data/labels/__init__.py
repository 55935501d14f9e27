"""Label maps: the map of values to ids, what masks may hold, regions and segments."""
