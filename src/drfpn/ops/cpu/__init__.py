"""Implementations of operators for CPUs, where those of PyTorch and torchvision are slow."""
