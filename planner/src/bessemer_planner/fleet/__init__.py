"""The fleet: demand over the year, what can be deployed and bought, and the cheapest choice that keeps the limits."""
