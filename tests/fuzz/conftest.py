"""What belongs to `make fuzz` alone: measurements of time, and what needs the fuzzer."""

from support.proving import PROVING

collect_ignore = [] if PROVING else ["test_timing.py", "test_guided.py"]
