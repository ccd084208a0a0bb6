"""Data augmentation: presets of transforms, copy-paste, and data sets that apply them."""
