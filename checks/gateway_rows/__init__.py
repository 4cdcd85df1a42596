"""The rows of the gateway's case table that need no outside client, each with inputs of its own."""
