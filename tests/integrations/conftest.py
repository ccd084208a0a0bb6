from importlib.util import find_spec

# mmdetection is in an environment of its own, made by `make test-mmdet`, which names the file.
collect_ignore = [] if find_spec("mmdet") else ["test_mmdet.py"]
