"""Local inference on torch: models, adapters, a continuously batching engine. See `engine.Engine` and `request`."""
