"""Label maps: mapping of values to ids, checks of mask values, regions and segments."""
