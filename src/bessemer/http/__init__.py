"""The HTTP API: what a connection may cost, who may enter, one table of endpoints (`surface`) and their handlers.

Handlers are thin. Which parts they use is `ApiServices`; `runtime` makes them. Nothing here starts a process.
"""
