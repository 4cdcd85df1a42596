"""The recommendation in words: every number in it is elsewhere in the plan."""

from collections.abc import Sequence

from bessemer_planner.economics import Ownership
from bessemer_planner.fleet.offers import OWN_TERM
from bessemer_planner.plan.types import ConfigurationRow, Fleet
from bessemer_planner.types import Owner
from bessemer_planner.workload import Workload

_MOST_DRAWS = 0.5
"""Share of draws above which a way is taken to be cheaper than the public cloud."""


def recommendation(
    workload: Workload, rows: Sequence[ConfigurationRow], fleet: Fleet, owners: Sequence[Ownership]
) -> str:
    """Return one paragraph: what to run, what it costs, who should own it."""
    deployed = "; ".join(_deployed(row, fleet) for row in rows if row.chosen)
    bought = ", ".join(
        f"{purchase.units} x {purchase.instance} ({purchase.term.replace('_', ' ')}"
        f"{'' if purchase.committed else ', at the peak'})"
        for purchase in fleet.purchases
    )
    bought += "".join(
        f", and ${one.usd_per_month:,.0f} a month for {one.name} on {one.instance} "
        f"({(one.term or '').replace('_', ' ')}, run by run)"
        for one in fleet.bookings
        if one.usd_per_month >= 1
    )
    cost = (
        f"${fleet.usd_per_month:,.0f} a month on average in the first year "
        f"(${fleet.usd_per_million_output_tokens:,.2f} per million output tokens, "
        f"${_digits(fleet.usd_per_thousand_requests)} per thousand requests)"
    )
    paid = _ledger(fleet, owners) or f"Pay for {bought}: {cost}."
    return f"Run {deployed}. {paid} {_owner(workload, owners)}"


def _ledger(fleet: Fleet, owners: Sequence[Ownership]) -> str | None:
    """Return what owned machines cost, counted and paid as in the comparison of owners; None: something is rented."""
    own = next((owner for owner in owners if owner.owner is Owner.OWN), None)
    if own is None or own.money is None or own.commitment is None:
        return None
    if not fleet.purchases or any(one.term != OWN_TERM for one in fleet.purchases):
        return None
    cash = {cause: -sum(paid) for cause, paid in own.money.cash.by_cause.items() if cause != "value"}
    months, systems = len(own.money.cash.total), ", ".join(one.instance for one in fleet.purchases)
    return (
        f"Buy {own.commitment.minimum_accelerators:,} accelerators ({systems}; "
        f"spares and a year's growth included): ${sum(cash.values()) / months:,.0f} a month on average over {months} "
        f"months, resale taken off, of which ${cash.get('staff', 0.0) / months:,.0f} are people."
    )


def _deployed(row: ConfigurationRow, fleet: Fleet) -> str:
    line = next((line for line in fleet.replicas if line.name.startswith(f"{row.name} @")), None)
    counts = "" if line is None else _replicas(min(line.weekday + line.weekend), max(line.weekday + line.weekend))
    split = f" ({row.prefill_replicas} prefill, {row.decode_replicas} decode)" if row.prefill_replicas else ""
    return (
        f"{counts}{row.model} on {row.accelerator} with tensor parallel {row.tensor_parallel}, {row.precision}, "
        f"{row.engine}{split}"
    )


def recommended(workload: Workload, owners: Sequence[Ownership]) -> Ownership | None:
    """Return the feasible way of owning that gives the same service at least cost; None: no way is feasible.

    Where the public cloud is possible, every other way rents until it serves and is taken when that costs less in most
    of the draws: none is cheaper because it serves later. Without the cloud there is nothing to rent meanwhile, and
    what counts is net present value where the service's value is stated, else cost per token served.
    """
    possible = [owner for owner in owners if owner.feasible and owner.money is not None]
    cloud = next((owner for owner in possible if owner.owner is Owner.CLOUD), None)
    if cloud is None:
        return max(possible, key=lambda owner: _worth(workload, owner), default=None)
    best = max(possible, key=_cheaper)
    return best if _cheaper(best) > _MOST_DRAWS else cloud


def _cheaper(owner: Ownership) -> float:
    """Return in which share of the draws a way costs less than the public cloud for the same service."""
    compared = None if owner.money is None else owner.money.break_even
    return 0.0 if compared is None else compared.cheaper_probability


def _worth(workload: Workload, owner: Ownership) -> float:
    assert owner.money is not None
    if workload.money.value_per_month:
        return owner.money.npv_usd.value
    tokens = owner.money.usd_per_million_tokens
    return -(owner.money.present_cost_usd.value if tokens is None else tokens.value)


def _owner(workload: Workload, owners: Sequence[Ownership]) -> str:
    best = recommended(workload, owners)
    assert best is not None  # a plan that nobody may own is refused
    assert best.money is not None
    cost = best.money.present_cost_usd
    impossible = ", ".join(_lower(owner.name) for owner in owners if not owner.feasible)
    possible = [owner for owner in owners if owner.feasible and owner.money is not None]
    by, share = "net present value" if workload.money.value_per_month else "cost per token served", ""
    if any(owner.owner is Owner.CLOUD for owner in possible):
        by = "cost of the same service from the first day"
        share = "".join(
            f" Renting until it serves, {_lower(owner.name)} costs less than the public cloud in {_cheaper(owner):.0%} "
            "of the draws."
            for owner in possible
            if owner.money is not None and owner.money.break_even is not None
        )
    return (
        f"By {by}, own it as {_lower(best.name)}: present cost ${cost.value:,.0f} over "
        f"{workload.time.horizon_months} months (P10 ${cost.low:,.0f}, P90 ${cost.high:,.0f}), "
        f"first token after {best.speed.months.value:.1f} months."
        + share
        + (f" Not possible under the rules: {impossible}." if impossible else "")
    )


def _digits(value: float) -> str:
    """Write three significant digits, never as a power of ten where the number is large."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]


def _replicas(least: float, most: float) -> str:
    many = "replica" if most == 1 else "replicas"
    return f"{most:.0f} {many} of " if least == most else f"{least:.0f} to {most:.0f} {many} of "
