"""Evidence: what a file itself says about where it came from, and how far that was verified.

    from edgeparse import provenance

    evidence = provenance.read("picture.png")
    for signal in evidence.signals:
        print(signal.says, signal.name, signal.verification, signal.strength)

It never joins the pixel probability. No signal means "no evidence", never "authentic".
"""

from edgeparse.provenance.reader import read
from edgeparse.provenance.rules import Conclusion, conclude, contradictions
from edgeparse.provenance.signals import Evidence, Problem, Signal

__all__ = ["Conclusion", "Evidence", "Problem", "Signal", "conclude", "contradictions", "read"]
