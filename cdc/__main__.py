"""`python -m cdc`: the same as `cdc`."""

from cdc.cli import main

main()
