"""The policy: may this principal do this to that? One port, asked by the router, handlers, the gateway and jobs alike.

An answer depends on the question alone (principal, action, resource, context), never on a clock, a counter or a
database: the four together are a key under which it may be remembered. Whoever asks has found the resource's row first.
A question about a project is also asked before a thing is found that is not there: whoever may not do it anywhere in
the project does not learn what there is.
"""

import logging
from collections.abc import Mapping
from typing import Final, Protocol

from bessemer.core.access import Action, ActionGroup, Principal, Resource, ResourceKind, Role
from bessemer.core.content import content_hash
from bessemer.core.errors import told
from bessemer.core.types import DEFAULT_PROJECT, Frozen

_log = logging.getLogger(__name__)


class Context(Frozen, frozen=True):
    """What a decision stands on beside principal and resource."""

    labels: frozenset[str] = frozenset()
    """Of the data that is asked about, such as `pii` and `residency:eu`."""


NO_CONTEXT: Final = Context()


class Decision(Frozen, frozen=True):
    """A policy's answer."""

    allowed: bool
    reasons: tuple[str, ...]
    """Names of the rules that it stands on; none: denied for want of a permit."""


class Policy(Protocol):
    """Decides. Pure and synchronous; safe to share between threads."""

    @property
    def name(self) -> str:
        """Which policy this is."""
        ...

    @property
    def sha256(self) -> str:
        """Hash of all that it decides by: two that are equal answer alike."""
        ...

    def decide(
        self, principal: Principal, action: Action, resource: Resource, context: Context = NO_CONTEXT
    ) -> Decision:
        """Answer. What it cannot evaluate it may raise: see `FailClosed`."""
        ...


PERMITS: Final[Mapping[Role, frozenset[ActionGroup | Action]]] = {
    Role.VIEWER: frozenset({ActionGroup.VIEW}),
    Role.APP: frozenset({ActionGroup.INVOKE, Action.FEEDBACK_WRITE}),
    Role.MEMBER: frozenset({ActionGroup.INVOKE, ActionGroup.VIEW, ActionGroup.CONTENT, ActionGroup.CONTRIBUTE}),
    Role.OPERATOR: frozenset({ActionGroup.VIEW, ActionGroup.OPERATE}),
    Role.APPROVER: frozenset({ActionGroup.VIEW, ActionGroup.APPROVE}),
    Role.AUDITOR: frozenset({ActionGroup.VIEW, ActionGroup.AUDIT}),
    Role.OWNER: frozenset(ActionGroup),
}
"""What each role may do in its key's project: all actions of groups, and single ones."""

_OF_OTHERS: Final[Mapping[Action, ActionGroup]] = {
    Action.FILE_DELETE: ActionGroup.OPERATE,
    Action.JOB_CONTROL: ActionGroup.OPERATE,
    Action.FEEDBACK_WRITE: ActionGroup.CONTRIBUTE,
}
"""What a permit lets a key do to what it made itself; to what another made it needs a permit on this group."""

_EVERYWHERE: Final = frozenset({Action.KEY_READ, Action.KEY_WRITE})
"""What keys of the default project may do in every project."""

_NAMED: Final = frozenset({ResourceKind.ROUTE, ResourceKind.MODEL, ResourceKind.VERSION})

_NO_PERMIT: Final = Decision(allowed=False, reasons=())
_FOREIGN: Final = Decision(allowed=False, reasons=("guard/project",))
_CEILING: Final = Decision(allowed=False, reasons=("guard/key-ceiling",))
_MADE_BY_ANOTHER: Final = Decision(allowed=False, reasons=("guard/made-by-another",))


class RolePolicy:
    """Permits by role, within the key's project and ceiling; nothing else is allowed."""

    name: Final = "roles"

    def __init__(self) -> None:
        self._may = {role: frozenset(a for a in Action if {a, *a.groups} & PERMITS[role]) for role in Role}
        self._allow = {role: Decision(allowed=True, reasons=(f"role/{role}",)) for role in Role}
        self.sha256: Final = content_hash(
            {
                "permits": {role: sorted(permits) for role, permits in PERMITS.items()},
                "actions": {action: sorted(action.groups) for action in Action},
                "of_others": _OF_OTHERS,
                "everywhere": sorted(_EVERYWHERE),
                "named": sorted(_NAMED),
            }
        )

    def decide(
        self,
        principal: Principal,
        action: Action,
        resource: Resource,
        context: Context = NO_CONTEXT,  # noqa: ARG002 - roles look at none of it
    ) -> Decision:
        """Answer by the table above."""
        role = principal.role
        if action not in self._may[role]:
            return _NO_PERMIT
        # The organization's, and keys of any project, are for keys of the default project.
        if principal.project_id != (resource.project_id or DEFAULT_PROJECT) and not (
            principal.project_id == DEFAULT_PROJECT and action in _EVERYWHERE
        ):
            return _FOREIGN
        if principal.models is not None and resource.kind in _NAMED and not _within(principal.models, resource.id):
            return _CEILING
        if (
            (needed := _OF_OTHERS.get(action)) is not None
            and resource.kind is not ResourceKind.PROJECT
            and resource.made_by != principal.key_id
            and needed not in PERMITS[role]
        ):
            return _MADE_BY_ANOTHER
        return self._allow[role]


class FailClosed:
    """A policy whose failure is a denial."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.name: Final = policy.name
        self.sha256: Final = policy.sha256

    def decide(
        self, principal: Principal, action: Action, resource: Resource, context: Context = NO_CONTEXT
    ) -> Decision:
        """Answer as the policy does; where it raises, deny."""
        try:
            return self._policy.decide(principal, action, resource, context)
        except Exception as error:
            _log.error("the policy %s failed on %s: %s", self.name, action, told(error))
            return Decision(allowed=False, reasons=("policy_error",))


def roles_that_may(policy: Policy, action: Action, resource: Resource) -> tuple[Role, ...]:
    """Return with which roles a key of the resource's project that has no ceiling and made nothing may do something."""
    whose = resource.project_id or DEFAULT_PROJECT
    asked = {role: Principal(key_id="", name="", role=role, project_id=whose) for role in Role}
    return tuple(role for role, one in asked.items() if policy.decide(one, action, resource).allowed)


def _within(models: tuple[str, ...], name: str) -> bool:
    """Whether a name is one of these, or a version or alias of one."""
    return name in models or name.partition("@")[0] in models or name.partition(":")[0] in models
