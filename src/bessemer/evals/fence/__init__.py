"""The process that a grader's own code runs in: standard library only, a program of its own started by `__main__`."""
