"""Durable work: kinds of jobs, their lifecycle, their queue, and the runner, the only user of the workflow library.

It knows no kind by name: each is declared where it belongs and listed in the composition root.
"""
