"""Instance masks: run lengths, polygons, packed arrays."""
