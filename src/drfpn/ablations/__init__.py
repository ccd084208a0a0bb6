"""Ablations: the tables of the paper as training runs, with confidence intervals, parameters, time and memory."""
