"""The shipped catalogue: traps of the public figures, blanks, lookups, and one-line errors."""

import hashlib
from importlib import resources

import pytest

from bessemer_planner.catalog import HardwareCatalog, append_prices, load_catalog, read_prices, write_prices
from bessemer_planner.catalog.figures import Figure
from bessemer_planner.catalog.tables import read_accelerators, read_instances, read_parts
from bessemer_planner.errors import InputError, UnknownName, Unsatisfiable
from bessemer_planner.types import InstancePrice, Source


@pytest.fixture(scope="module")
def catalog() -> HardwareCatalog:
    return load_catalog()


def test_server_edition_bandwidth_not_the_workstation_one(catalog: HardwareCatalog) -> None:
    assert catalog.accelerator("rtx_pro_6000_server").bandwidth_tbs == 1.597


def test_peaks_are_dense(catalog: HardwareCatalog) -> None:
    assert catalog.accelerator("l40s").fp8_tflops == 733
    assert catalog.accelerator("rtx_pro_6000_server").fp4_tflops == 1920
    assert catalog.accelerator("h100_sxm").fp8_tflops == 1979
    assert catalog.accelerator("gb200").fp4_tflops == 10_000


@pytest.mark.parametrize("name", ["p6-b200.48xlarge", "u-p6e-gb200x36", "u-p6e-gb200x72", "p6e-gb200.36xlarge"])
def test_scale_out_is_400_gbps_per_gpu_on_aws(catalog: HardwareCatalog, name: str) -> None:
    instance = catalog.instance(name)
    assert instance.network_gbps is not None
    assert instance.network_gbps / instance.count == 400


def test_fp4_only_where_the_hardware_has_it(catalog: HardwareCatalog) -> None:
    assert catalog.accelerator("h100_sxm").fp4_tflops is None
    assert catalog.accelerator("a100").fp8_tflops is None


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("H100", "h100_sxm"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx_pro_6000_server"),
        ("b300_SXM", "b300_sxm"),
        ("trn2", "trainium2"),
    ],
)
def test_aliases(catalog: HardwareCatalog, alias: str, name: str) -> None:
    assert catalog.accelerator(alias).name == name


def test_announced_hardware_is_refused_with_the_nearest(catalog: HardwareCatalog) -> None:
    with pytest.raises(Unsatisfiable, match="nearest: trainium3"):
        catalog.accelerator("Trainium4")


def test_unknown_names_are_refused_with_the_nearest(catalog: HardwareCatalog) -> None:
    with pytest.raises(UnknownName, match="nearest: h100_sxm"):
        catalog.accelerator("h100_smx")
    with pytest.raises(UnknownName, match=r"nearest: g7e"):
        catalog.instance("g7e.49xlarge")


@pytest.mark.parametrize("name", ["u-p6e-gb300x72", "trn3-gen2-ultraserver", "a4x-highgpu-4g", "g7e.8xlarge"])
def test_no_public_price_is_blank_and_refused(catalog: HardwareCatalog, name: str) -> None:
    assert catalog.prices(name) == ()
    with pytest.raises(Unsatisfiable, match="no price of it is public"):
        catalog.price(name, "on_demand")


def test_prices_are_those_known_on_a_day(catalog: HardwareCatalog) -> None:
    name = "p6-b200.48xlarge"
    history = [catalog.price(name, "capacity_block", on).usd_per_hour for on in ("2026-02-01", "2026-07-01", None)]
    assert history == [74.88, 82.368, 98.84]
    with pytest.raises(Unsatisfiable, match="on or before 2025-01-01"):
        catalog.price(name, "capacity_block", "2025-01-01")
    with pytest.raises(Unsatisfiable, match="known: capacity_block, on_demand, spot"):
        catalog.price(name, "3yr")


def test_one_region_that_is_read_later_does_not_hide_the_others(catalog: HardwareCatalog) -> None:
    assert catalog.price("g7e.2xlarge", "on_demand").usd_per_hour == 3.36312
    assert catalog.price("g7e.2xlarge", "on_demand", region="eu-central-1").date == "2026-09-25"


def test_a_price_of_last_winter_does_not_beat_todays(catalog: HardwareCatalog) -> None:
    dates = [price.date for price in catalog.prices("p5.48xlarge", "capacity_block")]
    assert dates[0] == "2026-09-19"
    assert dates == sorted(dates, reverse=True)
    assert catalog.price("p5.48xlarge", "capacity_block", region="eu-north-1").usd_per_hour == 31.464


def test_cheapest_region_of_the_newest_day_unless_one_is_named(catalog: HardwareCatalog) -> None:
    assert catalog.price("ND96isr_H200_v5", "on_demand").region == "eastus2"
    assert catalog.price("ND96isr_H200_v5", "on_demand", region="swedencentral").usd_per_hour == 114.688


def test_ultraserver_price_is_for_all_its_accelerators(catalog: HardwareCatalog) -> None:
    assert catalog.price("u-p6e-gb200x72", "capacity_block").usd_per_hour / 72 == pytest.approx(10.582, abs=1e-3)


def test_history_is_never_rewritten() -> None:
    """The rows of the first release stay as they are, byte for byte; new rows follow them."""
    text = (resources.files("bessemer_planner.catalog") / "prices.csv").read_text()
    first = "\n".join(text.splitlines()[:104])
    assert hashlib.sha256(first.encode()).hexdigest() == FIRST_RELEASE


FIRST_RELEASE = "6b4390dc57b9b03cc79886ee0451b2b60f5018581659e6689d75dc616c0be300"


def test_append_refuses_to_reprice_history(catalog: HardwareCatalog) -> None:
    old = catalog.history[0]
    with pytest.raises(InputError, match="append a row with a later date instead"):
        append_prices(catalog.history, [InstancePrice(old.instance, 1.0, old.term, old.region, old.date, "x")])
    assert append_prices(catalog.history, [old]) == catalog.history


def test_refreshed_prices_come_after_and_win(catalog: HardwareCatalog) -> None:
    row = InstancePrice("g7e.48xlarge", 30.0, "on_demand", "us-east-1", "2026-11-01", "page")
    fresh = catalog.with_prices([row])
    assert fresh.price("g7e.48xlarge", "on_demand") == row
    assert fresh.price("g7e.48xlarge", "on_demand", on="2026-10-01").usd_per_hour == 33.14432
    with pytest.raises(UnknownName):
        catalog.with_prices([InstancePrice("g9.48xlarge", 30.0, "on_demand", "us-east-1", "2026-11-01", "page")])


def test_a_second_reading_of_a_day_changes_nothing(catalog: HardwareCatalog) -> None:
    first = InstancePrice("g7e.48xlarge", 20.0, "spot", "us-east-1", "2026-11-01", "page")
    second = InstancePrice("g7e.48xlarge", 21.0, "spot", "us-east-1", "2026-11-01", "page")
    other = InstancePrice("p5.48xlarge", 21.0, "spot", "us-east-1", "2026-11-01", "page")
    assert catalog.unseen([first, second, other]) == (first, other)
    fresh = catalog.with_prices([first])
    assert fresh.unseen([second, other]) == (other,)
    assert fresh.unseen(fresh.history) == ()


def test_prices_round_trip(catalog: HardwareCatalog) -> None:
    assert read_prices(write_prices(catalog.history)) == catalog.history


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,on_demand,us,0,2026-01-01,page", "line 2: usd_per_hour: 0 is not positive"),
        ("a,on_demand,us,nan,2026-01-01,page", "line 2: usd_per_hour: nan is not positive"),
        ("a,on_demand,us,,2026-01-01,page", "line 2: usd_per_hour: '' is not a number"),
        ("a,weekly,us,1,2026-01-01,page", "line 2: term 'weekly' is not one of"),
        ("a,on_demand,us,1,yesterday,page", "line 2: 'yesterday' is not a date"),
        ("a,on_demand,us,1,2026-01-01,", "line 2: a price without a source"),
        ("a,on_demand,us,1", "line 2: 6 columns are needed"),
    ],
)
def test_a_bad_price_is_one_line(row: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        read_prices("instance,term,region,usd_per_hour,date,source\n" + row)
    assert message in error.value.message
    assert "\n" not in error.value.message


def test_a_price_file_without_its_columns_is_refused() -> None:
    with pytest.raises(InputError, match="columns missing: term, region"):
        read_prices("instance,usd_per_hour\na,1\n")


def test_bad_accelerators_and_instances_are_one_line() -> None:
    base = 'architecture = "x"\nbf16_tflops = 1\nmemory_gb = 1\nsource = "s"\n'
    with pytest.raises(InputError, match="bandwidth_tbs is missing"):
        read_accelerators("[a]\n" + base)
    with pytest.raises(InputError, match="unknown key 'bandwith'"):
        read_accelerators("[a]\nbandwith = 1\n" + base)
    with pytest.raises(InputError, match="'n' names both 'a' and 'b'"):
        tables = "".join(f'[{name}]\naliases = ["n"]\nbandwidth_tbs = 1\n{base}' for name in "ab")
        read_accelerators(tables)
    header = "name,provider,accelerator,count,domain,network_gbps,vcpu,ram_gib,operator,source,date\n"
    with pytest.raises(InputError, match="'i' is there twice"):
        read_instances(header + "i,A,a,1,1,,,,A,s,2026-01-01\n" * 2)


def test_a_figure_needs_an_ordered_range() -> None:
    with pytest.raises(InputError, match="low <= value <= high"):
        Figure("x", "USD", 2, 1, 3, Source("s"))
    with pytest.raises(InputError, match="high is missing"):
        read_parts('[system]\n[a]\nb = {low = 1, value = 1, unit = "u", source = "s", date = "2026-01-01"}')


def test_every_figure_has_unit_source_and_date(catalog: HardwareCatalog) -> None:
    for figure in catalog.figures.values():
        assert figure.unit, figure.name
        assert figure.source.where, figure.name
        assert figure.source.date, figure.name
    for accelerator in catalog.accelerators.values():
        assert accelerator.source.where, accelerator.name
        assert accelerator.source.date, accelerator.name


def test_machines_without_a_purchase_price_are_refused(catalog: HardwareCatalog) -> None:
    assert catalog.system("gb200").count == 72
    for name in ("mi300x", "trainium2", "l40s"):
        with pytest.raises(Unsatisfiable, match="no purchase price"):
            catalog.system(name)


def test_factory_terms_that_nobody_published_are_labelled(catalog: HardwareCatalog) -> None:
    assert catalog.figure("factory.minimum_accelerators").value == 3000
    assert catalog.figure("factory.discount").assumption
    assert catalog.figure("lead.factory_months").assumption
