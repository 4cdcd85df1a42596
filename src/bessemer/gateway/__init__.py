"""The data plane: every model call of the system, resolved, routed, answered and recorded."""

from bessemer.gateway.pipeline import INTERNAL, Answered, Gateway, ReplyStream, on_behalf_of

__all__ = ["INTERNAL", "Answered", "Gateway", "ReplyStream", "on_behalf_of"]
