"""Benchmarks, each against a peer in the same run, on the same machine, in turns."""
