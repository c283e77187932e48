"""`python -m edgeparse`, the same as `edgeparse`."""

from edgeparse.cli import main

main()
