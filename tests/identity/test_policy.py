"""The policy port, and the policy of roles: who may do what to what, within which limits, and what its answers name."""

import pytest

from bessemer.core.access import (
    ORGANIZATION,
    Action,
    ActionGroup,
    Principal,
    Resource,
    ResourceKind,
    Role,
    project,
)
from bessemer.core.types import DEFAULT_PROJECT
from bessemer.identity.policy import NO_CONTEXT, Context, Decision, FailClosed, Policy, RolePolicy, roles_that_may

POLICY: Policy = RolePolicy()


def key(role: Role, project_id: str = "claims", models: tuple[str, ...] | None = None) -> Principal:
    return Principal(key_id="key-1", name="someone", role=role, project_id=project_id, models=models)


def thing(kind: ResourceKind, made_by: str | None = None, name: str = "x", project_id: str = "claims") -> Resource:
    return Resource(kind=kind, id=name, project_id=project_id, made_by=made_by)


def test_an_answer_names_the_permit_or_the_rule_that_it_stands_on() -> None:
    here = project("claims")
    assert POLICY.decide(key(Role.VIEWER), Action.OBJECT_VIEW, here) == Decision(allowed=True, reasons=("role/viewer",))
    assert POLICY.decide(key(Role.VIEWER), Action.FILE_WRITE, here) == Decision(allowed=False, reasons=())


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("action", Action)
def test_nothing_of_another_project_is_allowed_but_keys_to_those_of_the_default_one(role: Role, action: Action) -> None:
    there = project("hr")
    assert not POLICY.decide(key(role), action, there).allowed
    over_all = POLICY.decide(key(role, DEFAULT_PROJECT), action, there).allowed
    assert over_all is (role is Role.OWNER and action in {Action.KEY_READ, Action.KEY_WRITE})


@pytest.mark.parametrize("role", Role)
def test_the_organization_is_for_keys_of_the_default_project(role: Role) -> None:
    assert not POLICY.decide(key(role), Action.OBJECT_VIEW, ORGANIZATION).allowed
    allowed = POLICY.decide(key(role, DEFAULT_PROJECT), Action.OBJECT_VIEW, ORGANIZATION).allowed
    assert allowed is (role is not Role.APP)


@pytest.mark.parametrize(
    ("action", "kind", "any_by", "own_by"),
    [
        (Action.FILE_DELETE, ResourceKind.FILE, {"operator", "owner"}, {"member"}),
        (Action.JOB_CONTROL, ResourceKind.JOB, {"operator", "owner"}, {"member"}),
        (Action.CASCADE_CONTROL, ResourceKind.JOB, {"operator", "owner"}, set()),
        (Action.FEEDBACK_WRITE, ResourceKind.INFERENCE, {"member", "owner"}, {"app"}),
    ],
)
def test_what_one_made_and_what_others_made(
    action: Action, kind: ResourceKind, any_by: set[str], own_by: set[str]
) -> None:
    others = {role for role in Role if POLICY.decide(key(role), action, thing(kind, "key-2")).allowed}
    nobodys = {role for role in Role if POLICY.decide(key(role), action, thing(kind)).allowed}
    own = {role for role in Role if POLICY.decide(key(role), action, thing(kind, "key-1")).allowed}
    assert (others, nobodys, own) == (any_by, any_by, any_by | own_by)
    refused = POLICY.decide(key(Role(min(own_by or {"viewer"}))), action, thing(kind, "key-2"))
    assert refused.reasons == (("guard/made-by-another",) if own_by else ())


@pytest.mark.parametrize("kind", [ResourceKind.ROUTE, ResourceKind.MODEL, ResourceKind.VERSION])
@pytest.mark.parametrize(
    ("name", "within"),
    [
        ("small", True),
        ("small:champion", True),
        ("small@0123", True),
        ("smaller", False),
        ("large", False),
        ("", False),
    ],
)
def test_a_keys_ceiling_is_names_with_their_aliases_and_versions(kind: ResourceKind, name: str, within: bool) -> None:
    limited = key(Role.OWNER, models=("small",))
    for action in (Action.ROUTE_INVOKE, Action.OBJECT_VIEW, Action.ROUTE_WRITE, Action.VERSION_PROMOTE):
        decision = POLICY.decide(limited, action, thing(kind, name=name))
        assert decision.allowed is within
        assert within or decision.reasons == ("guard/key-ceiling",)
    assert POLICY.decide(limited, Action.OBJECT_VIEW, thing(ResourceKind.FILE, name=name)).allowed


def test_an_owner_may_everything_and_every_action_is_somebodys() -> None:
    here = project(DEFAULT_PROJECT)
    for action in Action:
        assert Role.OWNER in roles_that_may(POLICY, action, here)
        assert action.groups <= set(ActionGroup)
    assert roles_that_may(POLICY, Action.DATASET_APPROVE, here) == (Role.OPERATOR, Role.APPROVER, Role.OWNER)


def test_the_question_is_a_key_under_which_its_answer_may_be_remembered() -> None:
    def question() -> tuple[object, ...]:
        labels = Context(labels=frozenset({"pii"}))
        route = thing(ResourceKind.ROUTE, name="small")
        return (POLICY.sha256, key(Role.APP, models=("small",)), Action.ROUTE_INVOKE, route, labels)

    remembered = {question(): True}
    assert question() in remembered
    assert RolePolicy().sha256 == POLICY.sha256


class Broken:
    """A policy of another engine that fails where it evaluates."""

    name = "broken"
    sha256 = "0" * 64

    def decide(
        self, principal: Principal, action: Action, resource: Resource, context: Context = NO_CONTEXT
    ) -> Decision:
        raise RuntimeError("no such entity")


def test_what_cannot_be_evaluated_is_denied() -> None:
    guarded = FailClosed(Broken())
    denied = guarded.decide(key(Role.OWNER), Action.OBJECT_VIEW, project("claims"))
    assert denied == Decision(allowed=False, reasons=("policy_error",))
    assert (guarded.name, guarded.sha256) == ("broken", "0" * 64)
    asked = FailClosed(POLICY)
    assert asked.decide(key(Role.OWNER), Action.OBJECT_VIEW, project("claims")).allowed
