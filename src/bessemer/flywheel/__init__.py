"""The loop: evaluate versions, gate them, promote or roll back, turn a route into a cascade."""
