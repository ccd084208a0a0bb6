"""The command line: parse, call, print. Torch is imported inside of the commands, so that help comes at once."""

from drfpn.cli.app import main

__all__ = ["main"]
