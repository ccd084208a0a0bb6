"""DRFPN (arXiv:2012.01733): the neck, its blocks, the rows of the paper's ablations, the authors' weights."""
