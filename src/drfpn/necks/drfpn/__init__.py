"""DRFPN (arXiv:2012.01733): the neck, its blocks and conventions, the steps of the paper's ablations, its weights."""
