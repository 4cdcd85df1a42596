"""Claims about prices: C5 and C8."""

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.claims.types import Claim, Computed, Input, Verdict
from bessemer_planner.economics.network import cost_of_lost_utilisation, fleet_where_loss_exceeds, network_loss

FACTORY = 3000
LOST = 0.10


def ultraserver_price(catalog: HardwareCatalog) -> Claim:
    """C5: 30 to 50 USD per GPU-hour of P6e."""
    rack = catalog.instance("u-p6e-gb200x72")
    price = catalog.price(rack.name, "capacity_block")
    rate = price.usd_per_hour / rack.count
    others = {}
    for instance in catalog.instances(rack.accelerator):
        for other in catalog.prices(instance.name, "on_demand")[:1]:
            others[instance.name] = (other, other.usd_per_hour / instance.count)
    highest = max([rate, *(value for _, value in others.values())])
    near = highest >= 0.9 * 30
    verdict = Verdict.HOLDS if rate >= 30 else Verdict.FAILS
    return Claim(
        number="C5",
        claim="P6e-GB200 costs 30 to 50 USD per GPU and hour.",
        inputs=(
            Input(rack.name, price.usd_per_hour, "USD/h", f"{price.source}, {price.date}"),
            *(Input(name, one.usd_per_hour, "USD/h", f"{one.source}, {one.date}") for name, (one, _) in others.items()),
        ),
        computed=(
            Computed("AWS Capacity Block", rate, "USD per GPU-hour"),
            Computed("claimed over published, low", 30 / rate, "times"),
            Computed("claimed over published, high", 50 / rate, "times"),
            Computed("highest public GB200 price", highest, "USD per GPU-hour"),
        ),
        verdict=verdict,
        explanation=(
            f"The published Capacity Block is ${rate:.2f}: the claim is {30 / rate:.1f} to {50 / rate:.1f} times too "
            "high. "
            + (
                f"Only the dearest public price of the same GPU comes near, ${highest:.2f} pay-as-you-go elsewhere."
                if near
                else f"No public price of the same GPU exceeds ${highest:.2f}."
            )
        ),
    )


def lost_utilisation(catalog: HardwareCatalog) -> Claim:
    """C8: what 10 % of utilisation is worth."""
    rack = catalog.instance("u-p6e-gb200x72")
    price = catalog.price(rack.name, "capacity_block")
    rate = price.usd_per_hour / rack.count
    cost = cost_of_lost_utilisation(FACTORY, rate, LOST)
    million = fleet_where_loss_exceeds(1e6, rate, LOST)
    several = fleet_where_loss_exceeds(2e6, rate, LOST)
    assert rack.network_gbps is not None
    per_gpu = rack.network_gbps / rack.count / 8 * 1e9
    balanced = network_loss(1.0, per_gpu, per_gpu, 0.9)
    return Claim(
        number="C8",
        claim="10 % of utilisation lost to a badly configured network costs millions a year.",
        inputs=(
            Input("fleet", FACTORY, "accelerators", "the least an AI factory starts at, AWS staff via techjournal.uk"),
            Input("price", rate, "USD per accelerator-hour", f"{price.source}, {price.date}"),
            Input("lost", LOST, "of the hours", "the claim"),
        ),
        computed=(
            Computed("cost", cost, "USD a year"),
            Computed("fleet that loses 1 million", million, "accelerators"),
            Computed("fleet that loses 2 million", several, "accelerators"),
            Computed("efficiency that loses 10 %", 1 - balanced.lost, "of the bandwidth, no overlap"),
        ),
        verdict=Verdict.HOLDS_IF if cost >= 2e6 else Verdict.FAILS,
        explanation=(
            f"{FACTORY:,} accelerators lose ${cost / 1e6:.1f}M a year. It takes {million:.0f} accelerators to lose "
            f"one million and {several:.0f} to lose two; a single 8-GPU node loses ${cost / FACTORY * 8:,.0f}. A "
            "training step that waits for its network loses 10 % when the fabric runs at 90 % of its bandwidth, as "
            "EFA falling back to TCP or missing GPUDirect does many times over."
        ),
        condition=f"the fleet has at least {several:.0f} accelerators of this price",
    )
