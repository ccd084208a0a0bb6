"""The synthetic data set "shapes": its images are drawn on the fly."""
