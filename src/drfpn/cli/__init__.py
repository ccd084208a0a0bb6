"""Command line: parses arguments, calls the library, prints results; PyTorch is imported by the commands only."""

from drfpn.cli.app import main

__all__ = ["main"]
