"""The pipeline: its wiring, its presets, and the ways to run it, here and on a cluster."""
