"""The typed client of Bessemer's API: `Client` and `AsyncClient` send the calls that the functions of `calls` make.

It imports `bessemer.core` alone; aiohttp is loaded by the first call of an AsyncClient.
"""

from bessemer.client import calls
from bessemer.client.answers import Unreachable
from bessemer.client.blocking import Client
from bessemer.client.concurrent import AsyncClient
from bessemer.client.operation import Operation, Streamed, as_sent

__all__ = ["AsyncClient", "Client", "Operation", "Streamed", "Unreachable", "as_sent", "calls"]
