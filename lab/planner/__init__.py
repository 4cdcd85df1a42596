"""What measures and calibrates the planner: `python -m lab.planner` runs the measurements."""
