"""The process that a grader's own code runs in: standard library only, started by `__main__`, never by an import."""
