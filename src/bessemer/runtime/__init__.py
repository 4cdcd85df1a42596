"""Processes: the composition root, the server, its supervised worker, locks, extensions of other packages."""
