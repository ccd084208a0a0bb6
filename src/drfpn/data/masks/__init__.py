"""Instance masks: run-length encoding, polygons, boxes, and arrays of segmentations."""
