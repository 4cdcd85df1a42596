"""Measurements and what calibrates: the package that is not shipped. Run its modules from the repository's root.

Each says in its first lines what it measures and how it is run; results are in `lab/results`. It may use Bessemer and
the planner; nothing of them knows it.
"""
