"""Implementations of operators for CPUs, where those of PyTorch and torchvision are slow; see ``drfpn.ops.dispatch``.

Those that use ``F.embedding_bag`` run on CUDA too in deterministic mode, where the usual operators have no
deterministic backward pass.
"""
