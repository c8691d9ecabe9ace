"""The parts of `benchmarks/chaos.py`: who sends, who handles, what goes wrong, and who judges."""
