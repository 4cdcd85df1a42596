"""Rungs: small models that answer without torch, from arrays that scikit-learn fitted elsewhere (`bessemer.ladder`).

`kinds.load` opens an artefact of any kind of the table there; `Rung.predict` gives label probabilities and how familiar
an input is. `spans.Spans` gives fields' values as spans of the input. Nothing here imports torch, scikit-learn or a
pickle.
"""
