"""Imported last by the server of :mod:`tests.processes`: its forks do not collect garbage among what is imported."""

import gc

gc.collect()
gc.freeze()
