"""gateway/providers."""
