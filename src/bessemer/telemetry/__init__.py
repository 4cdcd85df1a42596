"""What an operator sees of a running process: structured logs without secrets or content, and metrics."""
