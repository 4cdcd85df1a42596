"""What can be asked: models and their upstreams, versions and aliases, routes, prices, weights; read from the
configuration and the database, and kept in memory by `Catalog`.
"""
