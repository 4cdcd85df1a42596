"""Invented products: brands, categories and the attributes that make two offers the same article.

Everything here is made up for the demo; it decides what exists and what one product's near twin is. How a shop writes a
product down is `offers`' business.
"""

import random
import string
from enum import StrEnum

import msgspec

from bessemer.core.types import Frozen


class Aspect(StrEnum):
    """What distinguishes a hard negative from its twin."""

    MODEL = "model"
    """One character of the model number."""
    SIZE = "size"
    """Another size, capacity or power."""
    EDITION = "edition"
    """Another generation."""
    PACK = "pack"
    """Another number of pieces."""
    BUNDLE = "bundle"
    """With or without the accessory."""


class Category(Frozen, frozen=True):
    """A kind of product: how shops call it, in which units it comes, what may come with it."""

    nouns: tuple[str, ...]
    unit: str
    sizes: tuple[float, ...]
    accessory: str
    price: float


class Product(Frozen, frozen=True):
    """One article. Two offers match exactly when every field but the colour is equal (colours are never varied)."""

    brand: str
    line: str
    category: Category
    letters: str
    digits: str
    suffix: str
    size: float
    edition: int
    pack: int
    bundle: bool
    colour: str
    price: float


BRANDS = (
    "Norvex", "Halmund", "Quillara", "Tessmer", "Brovik", "Ostrella", "Kandor", "Yarrowby", "Fenwald", "Zephrin",
    "Muldane", "Corvassa", "Ilmarin", "Petrovane", "Sundholt", "Wexlow", "Drannick", "Aurelmo", "Gristad", "Velkomar",
    "Hyndra", "Lortez", "Pendrall", "Rukova", "Stellmark", "Tavoro", "Umbrook", "Vantisse", "Xanford", "Brellin",
)  # fmt: skip

LINES = (
    "Aero", "Strato", "Pulse", "Nimbus", "Forge", "Vista", "Orbit", "Delta", "Quanta", "Ridge", "Echo", "Summit",
    "Lumen", "Terra", "Flux", "Harbor", "Comet", "Prism", "Vertex", "Cinder", "Atlas", "Breeze", "Onyx", "Raptor",
)  # fmt: skip

COLOURS = ("black", "white", "silver", "graphite", "red", "navy blue", "olive green", "stainless steel")

CATEGORIES = (
    Category(nouns=("cordless drill", "drill driver", "battery drill"), unit="V", sizes=(10.8, 12, 14.4, 18, 20, 36),
             accessory="charger", price=119),
    Category(nouns=("headphones", "headset", "over-ear headphones"), unit="mm", sizes=(30, 32, 40, 44, 50),
             accessory="carry case", price=89),
    Category(nouns=("solid state drive", "SSD", "internal SSD"), unit="GB", sizes=(240, 256, 480, 500, 512, 1000, 2000),
             accessory="heatsink", price=74),
    Category(nouns=("monitor", "display", "LED monitor"), unit="in", sizes=(22, 24, 27, 29, 32, 34),
             accessory="wall mount", price=229),
    Category(nouns=("coffee grinder", "burr grinder", "grinder"), unit="W", sizes=(120, 140, 150, 200, 250),
             accessory="brush", price=64),
    Category(nouns=("ground coffee", "coffee", "filter coffee"), unit="g", sizes=(200, 250, 400, 500, 750, 1000),
             accessory="measuring scoop", price=9),
    Category(nouns=("laundry detergent", "detergent", "washing liquid"), unit="ml", sizes=(750, 1000, 1500, 2000, 3000),
             accessory="dosing ball", price=12),
    Category(nouns=("water bottle", "bottle", "drinking bottle"), unit="ml", sizes=(350, 500, 600, 750, 1000),
             accessory="straw lid", price=24),
    Category(nouns=("LED bulb", "LED lamp", "light bulb"), unit="W", sizes=(4, 5, 7, 9, 11, 15),
             accessory="remote control", price=8),
    Category(nouns=("toner cartridge", "toner", "laser cartridge"), unit="g", sizes=(80, 100, 120, 150, 220),
             accessory="waste box", price=58),
    Category(nouns=("running shoe", "trainer", "running shoes"), unit="EU", sizes=(38, 39, 40, 41, 42, 43, 44, 45),
             accessory="spare laces", price=95),
    Category(nouns=("extension cable", "extension cord", "power extension"), unit="m", sizes=(1.5, 2, 3, 5, 10),
             accessory="cable ties", price=19),
    Category(nouns=("power bank", "powerbank", "portable charger"), unit="mAh", sizes=(5000, 8000, 10000, 20000, 26800),
             accessory="USB cable", price=35),
    Category(nouns=("vacuum cleaner", "vacuum", "hoover"), unit="W", sizes=(450, 600, 700, 850, 900),
             accessory="spare filter", price=149),
)  # fmt: skip

PACKS = (1, 1, 1, 2, 3, 4, 6, 10)


def make_product(random_: random.Random) -> Product:
    """Draw a product."""
    category = random_.choice(CATEGORIES)
    return Product(
        brand=random_.choice(BRANDS),
        line=random_.choice(LINES),
        category=category,
        letters="".join(random_.choices(string.ascii_uppercase, k=random_.choice((1, 2, 2, 3)))),
        digits="".join(random_.choices(string.digits[1:], k=random_.choice((2, 3, 3, 4)))),
        suffix=random_.choice(("", "", *string.ascii_uppercase)),
        size=random_.choice(category.sizes),
        edition=random_.randint(1, 4),
        pack=random_.choice(PACKS),
        bundle=random_.random() < 0.5,
        colour=random_.choice(COLOURS),
        price=round(category.price * random_.uniform(0.6, 2.2), 2),
    )


def twin(product: Product, aspect: Aspect, random_: random.Random) -> Product:
    """Return the near twin of a product that differs in exactly one aspect."""
    if aspect is Aspect.MODEL:
        place = random_.randrange(len(product.digits))
        digit = random_.choice([d for d in string.digits[1:] if d != product.digits[place]])
        return msgspec.structs.replace(product, digits=product.digits[:place] + digit + product.digits[place + 1 :])
    if aspect is Aspect.SIZE:
        size = random_.choice([s for s in product.category.sizes if s != product.size])
        return msgspec.structs.replace(product, size=size)
    if aspect is Aspect.EDITION:
        edition = random_.choice([e for e in range(1, 5) if e != product.edition])
        return msgspec.structs.replace(product, edition=edition)
    if aspect is Aspect.PACK:
        pack = random_.choice([p for p in sorted(set(PACKS)) if p != product.pack])
        return msgspec.structs.replace(product, pack=pack)
    return msgspec.structs.replace(product, bundle=not product.bundle)
