"""What was learned about answers: feedback records, and the frozen datasets made of them."""
