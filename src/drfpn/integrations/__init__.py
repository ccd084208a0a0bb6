"""Necks of this library in other detection frameworks: :mod:`.mmdet` and :mod:`.detectron2`."""
