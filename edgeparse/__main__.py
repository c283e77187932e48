"""`python -m edgeparse`, the same as `edgeparse`."""

from edgeparse.cli.main import main

main()
