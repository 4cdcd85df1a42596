"""Who asks, and what can be allowed: principals and their roles, actions in groups, what an action is done to."""

from enum import StrEnum

from bessemer.core.types import DEFAULT_PROJECT, Frozen


class ActionGroup(StrEnum):
    """What rights are given by: a permit on a group is one on each of its actions."""

    INVOKE = "invoke"
    """Ask models."""
    VIEW = "view"
    """See that things exist, with their metadata: ids, times, versions, tokens, costs."""
    CONTENT = "content"
    """Read what was asked, answered and said: prompts, outputs, feedback texts, dataset rows, file bytes."""
    CONTRIBUTE = "contribute"
    """Add feedback on anything, files, datasets, jobs, evaluations, plans; steer one's own jobs, delete one's files."""
    OPERATE = "operate"
    """Change what serves: routes, aliases, cascades; steer anybody's jobs and delete anybody's files."""
    APPROVE = "approve"
    """Stand for what others chose, so that gates may count on it."""
    GOVERN = "govern"
    """Make and revoke keys, erase, overrule a gate."""
    AUDIT = "audit"
    """Read the audit trail."""


class Action(StrEnum):
    """What can be allowed, each in one group or more. Every endpoint names one."""

    groups: frozenset[ActionGroup]

    def __new__(cls, value: str, *groups: ActionGroup) -> "Action":
        one = str.__new__(cls, value)
        one._value_ = value
        one.groups = frozenset(groups)
        return one

    ROUTE_INVOKE = "route.invoke", ActionGroup.INVOKE
    """Ask a route, model, alias or version; also name one in a job that asks or tunes it."""
    MODEL_VIEW = "model.view", ActionGroup.INVOKE, ActionGroup.VIEW
    """See what may be asked for."""
    API_VIEW = "api.view", ActionGroup.INVOKE, ActionGroup.VIEW
    """Read the description of the API."""
    OBJECT_VIEW = "object.view", ActionGroup.VIEW
    """See a thing's metadata."""
    CONTENT_READ = "content.read", ActionGroup.CONTENT
    """Read a thing's content, on top of `object.view`."""
    FEEDBACK_WRITE = "feedback.write", ActionGroup.CONTRIBUTE
    """Judge an inference or an episode."""
    FEEDBACK_REVIEW = "feedback.review", ActionGroup.CONTRIBUTE
    """Be heard as a reviewer, who judges what others asked."""
    SPLIT_WRITE = "split.write", ActionGroup.CONTRIBUTE
    """Say which split an input belongs to."""
    DATASET_BUILD = "dataset.build", ActionGroup.CONTRIBUTE
    FILE_WRITE = "file.write", ActionGroup.CONTRIBUTE
    FILE_DELETE = "file.delete", ActionGroup.CONTRIBUTE, ActionGroup.OPERATE
    GRADER_RUN = "grader.run", ActionGroup.CONTRIBUTE
    JOB_CREATE = "job.create", ActionGroup.CONTRIBUTE
    JOB_CONTROL = "job.control", ActionGroup.CONTRIBUTE, ActionGroup.OPERATE
    """Cancel, pause, resume a job."""
    EVALUATION_CREATE = "evaluation.create", ActionGroup.CONTRIBUTE
    PLAN_CREATE = "plan.create", ActionGroup.CONTRIBUTE
    ROUTE_WRITE = "route.write", ActionGroup.OPERATE
    """Put a route in force, or put the one before back."""
    VERSION_PROMOTE = "version.promote", ActionGroup.OPERATE
    """Move an alias to a version."""
    VERSION_ROLLBACK = "version.rollback", ActionGroup.OPERATE
    """Move an alias back."""
    CASCADE_CREATE = "cascade.create", ActionGroup.OPERATE
    CASCADE_CONTROL = "cascade.control", ActionGroup.OPERATE
    DATASET_APPROVE = "dataset.approve", ActionGroup.OPERATE, ActionGroup.APPROVE
    """Stand for a dataset: gates may count on it."""
    GRADER_APPROVE = "grader.approve", ActionGroup.OPERATE, ActionGroup.APPROVE
    """Stand for a grader: a gate that it scores may count by itself."""
    GATE_OVERRIDE = "gate.override", ActionGroup.GOVERN
    """Put versions in force that passed no gate."""
    DIAGNOSTICS_READ = "diagnostics.read", ActionGroup.GOVERN
    """Read what an upstream itself said of a failure."""
    KEY_READ = "key.read", ActionGroup.GOVERN
    KEY_WRITE = "key.write", ActionGroup.GOVERN
    SUBJECT_ERASE = "subject.erase", ActionGroup.GOVERN
    AUDIT_READ = "audit.read", ActionGroup.AUDIT


class Role(StrEnum):
    """A name for rights that a key has; a policy says which. Roles are not ranks."""

    VIEWER = "viewer"
    APP = "app"
    """What an application needs: inference, and feedback on its own answers."""
    MEMBER = "member"
    OPERATOR = "operator"
    APPROVER = "approver"
    AUDITOR = "auditor"
    OWNER = "owner"
    """Everything."""

    @classmethod
    def _missing_(cls, value: object) -> "Role | None":
        """Read the names of earlier releases, from clients and from rows."""
        return {"inference": cls.APP, "admin": cls.OWNER}.get(str(value))


class Principal(Frozen, frozen=True):
    """Who asks: the key's id, its name, role and project."""

    key_id: str
    name: str
    role: Role
    project_id: str = DEFAULT_PROJECT
    on_behalf_of: str | None = None
    """The key that asked for the job or grade for which Bessemer asks itself; None for a key's own request."""
    trust: float = 1.0
    """Weight of the feedback that it gives, in [0, 1]."""
    models: tuple[str, ...] | None = None
    """The key's ceiling: routes and models that it may ask for, a model with its aliases and versions; None: all."""


class ResourceKind(StrEnum):
    """What an action is done to."""

    ORGANIZATION = "organization"
    PROJECT = "project"
    AUDIT_LOG = "audit_log"
    ROUTE = "route"
    MODEL = "model"
    VERSION = "version"
    DATASET = "dataset"
    FILE = "file"
    JOB = "job"
    PLAN = "plan"
    INFERENCE = "inference"
    FEEDBACK = "feedback"
    KEY = "key"


class Resource(Frozen, frozen=True):
    """What an action is done to: a project for what is made in it or listed, else one thing of a project."""

    kind: ResourceKind
    id: str
    """A row's, or a name: of a route, model, alias or version."""
    project_id: str | None
    """Whose it is, as the database says; None: the organization's."""
    made_by: str | None = None
    """The key that made it, where that matters and is known."""


ORGANIZATION = Resource(kind=ResourceKind.ORGANIZATION, id="", project_id=None)
"""The whole installation."""


def project(project_id: str) -> Resource:
    """Return a project as what an action is done to."""
    return Resource(kind=ResourceKind.PROJECT, id=project_id, project_id=project_id)
