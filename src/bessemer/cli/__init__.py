"""The command line: verbs over the typed client, and `up`, `worker`, `demo`, which start processes themselves."""
