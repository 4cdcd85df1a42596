"""`bessemer demo`: from verdicts to the cheapest route, acted out by an application through public interfaces alone."""
