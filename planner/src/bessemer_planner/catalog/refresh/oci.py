"""Oracle's price list API, docs.oracle.com/en-us/iaas/Content/Billing/Tasks/signingup_topic-Estimating_Costs.htm.

Prices are by GPU and hour, the same in all commercial regions; the list names parts, not shapes.
"""

import msgspec

from bessemer_planner.catalog.catalog import HardwareCatalog
from bessemer_planner.catalog.refresh.rows import amount, cheapest, decode
from bessemer_planner.types import InstancePrice

_PARTS = {
    "B98415": "BM.GPU.H100.8",
    "B110519": "BM.GPU.H200.8",
    "B110978": "BM.GPU.B200.8",
    "B112237": "BM.GPU.B300.8",
    "B110979": "BM.GPU.GB200.4",
    "B112140": "BM.GPU.GB300.4",
    "B109479": "BM.GPU.L40S.4",
    "B112613": "BM.GPU.RTXPRO.8",
    "B109485": "BM.GPU.MI300X.8",
    "B111758": "BM.GPU.MI355X.8",
}


class _Amount(msgspec.Struct, frozen=True):
    model: str
    value: float


class _Currency(msgspec.Struct, frozen=True, rename="camel"):
    currency_code: str
    prices: tuple[_Amount, ...]


class _Part(msgspec.Struct, frozen=True, rename="camel"):
    part_number: str
    metric_name: str
    currency_code_localizations: tuple[_Currency, ...]


class _Products(msgspec.Struct, frozen=True):
    items: tuple[_Part, ...]


def oci_products(body: bytes, catalog: HardwareCatalog, on: str, source: str) -> tuple[InstancePrice, ...]:
    """Read the list: pay-as-you-go by GPU and hour, multiplied by the GPUs of the shape."""
    rows = []
    for part in decode(body, _Products, "OCI price list").items:
        name = _PARTS.get(part.part_number)
        if name not in catalog.offers or "GPU Per Hour" not in part.metric_name:
            continue
        for currency in part.currency_code_localizations:
            for one in currency.prices:
                if currency.currency_code == "USD" and one.model == "PAY_AS_YOU_GO":
                    usd = amount(one.value, name) * catalog.instance(name).count
                    rows.append(InstancePrice(name, usd, "on_demand", "global", on, source))
    return cheapest(rows)
