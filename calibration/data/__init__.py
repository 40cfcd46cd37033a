"""Frames and labels: which there are, which to calibrate on, and what their label values mean."""
