"""Graders, metrics, statistics, gates, calibration, risk control: what may be said of a version, how surely."""
