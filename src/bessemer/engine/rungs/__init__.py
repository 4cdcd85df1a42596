"""Rungs: small models that answer without torch, from arrays that scikit-learn fitted elsewhere (`bessemer.ladder`).

`rung.open_rung` opens an artefact of any kind of the table in `kinds`; `Rung.predict` gives label probabilities and how
familiar an input is. Nothing here imports torch, scikit-learn or a pickle.
"""
