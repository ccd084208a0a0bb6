"""Checks of a data set: images, boxes, masks, duplicates."""
