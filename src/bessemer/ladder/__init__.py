"""Fits rungs from feedback with scikit-learn; what it returns is served by `bessemer.engine.rungs` without it.

`fit.fit` fits one kind, `fit.suits` says why a kind does not suit. The worker alone imports this package.
"""
