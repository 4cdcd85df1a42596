"""The planner's error tree. Each error names what is wrong and the remedy; `code` is for programs.

PlannerError                    what was asked makes no sense
├── InputError                  a workload, table, trace or file of measurements cannot be read or contradicts itself
├── Unsatisfiable               what is planned cannot be; says why and names the nearest thing that can
└── UnknownName                 nothing of that name is known; names the nearest
"""

from typing import Any, ClassVar


class PlannerError(Exception):
    """Base of all errors that the planner raises on purpose: the message, and the field that it is about."""

    code: ClassVar[str | None] = None

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    def body(self) -> dict[str, Any]:
        """Return the error as JSON in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""
        kind = "invalid_request_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class InputError(PlannerError):
    """A workload, table, trace or file of measurements is wrong; the message names the field and what to do."""

    code = "invalid_configuration"


class Unsatisfiable(PlannerError):
    """What is planned cannot be; the message says why and names the nearest thing that can."""

    code = "infeasible"


class UnknownName(PlannerError):
    """Nothing of that name is known."""

    code = "not_found"
