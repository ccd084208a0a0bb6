"""Let ``python -m drfpn`` run the command line."""

from drfpn.cli import main

main()
