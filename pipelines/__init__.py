"""The pipeline: its wiring, and the ways to run it, here and on a cluster."""
