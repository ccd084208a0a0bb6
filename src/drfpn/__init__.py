"""Better feature pyramids for object detection."""
