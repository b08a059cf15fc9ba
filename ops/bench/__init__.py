"""Ratios side by side: hookline against its own parts, and against what one would write instead.

`run.py` is the command. A scenario (scenarios/) names its arms and which of their figures are
divided; `measure.py` runs the arms in turn, again and again, each in fresh processes on a fresh
database of one and the same set of servers (`bed.py`). A run whose check of the invariants
(`verdict.py`) is not clean gives no figure at all.
"""
