"""Measurements: time as ratios within one run, memory as a peak."""
