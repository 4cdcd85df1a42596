"""Fits rungs from feedback with scikit-learn; what it returns is served by `bessemer.engine.rungs` without it.

`fit.fit` fits one kind, `fit.suits` says why a kind does not suit; `spans` does both for answers that
are JSON objects of parts of the input. The worker alone imports this package.
"""
