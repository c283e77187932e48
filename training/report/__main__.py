"""`python -m training.report`."""

from training.report import main

main()
