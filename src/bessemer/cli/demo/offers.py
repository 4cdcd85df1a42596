"""Offers as shops write them: the demo's record-matching task, seeded and made up.

Each pair comes from products of its own, so no product is in two pairs. A positive pair is one product written twice;
a hard negative is a product and its twin that differs in one aspect. Both are written by the same process: the aspect
in focus is always visible on both sides, every other attribute may be left out, so that neither what is shown nor the
price tells the label. Words get abbreviations and typos; model numbers and quantities only get other spellings.
"""

import random
from collections.abc import Sequence

import msgspec

from bessemer.cli.demo.catalogue import Aspect, Product, make_product, twin
from bessemer.core.content import content_hash
from bessemer.core.types import JSON, Frozen

YES, NO = "Yes", "No"
ABBREVIATIONS = {
    "black": "blk", "white": "wht", "silver": "slv", "graphite": "graph.", "navy blue": "navy",
    "olive green": "olive", "stainless steel": "s/s", "cordless": "crdls", "headphones": "hdphones",
    "monitor": "mon.", "grinder": "grndr", "detergent": "deterg.", "cartridge": "cart.", "extension": "ext.",
    "portable": "port.", "vacuum": "vac", "running": "run.", "internal": "int.", "bottle": "btl",
}  # fmt: skip
POSITIVE_SHARE = 0.4
USUAL_SPELLING = 0.9
"""Chance that a shop spells a quantity or model number in the usual way."""
USUAL_NOUN = 0.5
"""The same of what kind of product it is."""
HARD_SHARE = 0.6
"""Share of the negatives that are near twins; the others are unrelated products of one brand."""


class Pair(Frozen, frozen=True):
    """Two offers, whether they are the same article, and the aspect that was in focus (never shown to a model)."""

    input: JSON
    """`{"left": {"title", "brand", "price"}, "right": {...}}`."""
    answer: str
    """`Yes` or `No`."""
    aspect: Aspect
    hard: bool


def generate(count: int, seed: int) -> tuple[Pair, ...]:
    """Return `count` pairs with different inputs (in either order of the two sides); equal seeds give equal pairs."""
    random_ = random.Random(f"offers-{seed}")  # noqa: S311 - reproducible data, not a secret
    pairs: list[Pair] = []
    seen: set[str] = set()
    while len(pairs) < count:
        pair = _make_pair(random_)
        key = "".join(sorted(content_hash(pair.input[side]) for side in ("left", "right")))
        if key not in seen:
            seen.add(key)
            pairs.append(pair)
    return tuple(pairs)


def _make_pair(random_: random.Random) -> Pair:
    product, aspect = make_product(random_), random_.choice(tuple(Aspect))
    positive, hard = random_.random() < POSITIVE_SHARE, random_.random() < HARD_SHARE
    if positive:
        other = product
    elif hard:
        other = twin(product, aspect, random_)
    else:
        other = _stranger(product, random_)
    sides = [write_offer(product, aspect, random_), write_offer(other, aspect, random_)]
    random_.shuffle(sides)
    return Pair(
        input={"left": sides[0], "right": sides[1]},
        answer=YES if positive else NO,
        aspect=aspect,
        hard=hard and not positive,
    )


def _stranger(product: Product, random_: random.Random) -> Product:
    other = make_product(random_)
    while other.category == product.category:
        other = make_product(random_)
    return msgspec.structs.replace(other, brand=product.brand, line=product.line)


def write_offer(product: Product, focus: Aspect, random_: random.Random) -> JSON:
    """Write a product down as one shop would: `title`, `brand` (may be empty) and `price` (USD, may be empty)."""
    parts = [_noun(product, random_)]
    optional: list[tuple[Aspect | None, float, str]] = [
        (Aspect.MODEL, 0.85, model_text(product, random_)),
        (Aspect.SIZE, 0.35, size_text(product, random_)),
        (Aspect.EDITION, 0.15, edition_text(product, random_)),
        (Aspect.PACK, 0.1, pack_text(product, random_)),
        (Aspect.BUNDLE, 0.1, bundle_text(product, random_)),
        (None, 0.25, _shorten(product.colour, random_)),
    ]
    parts += [text for aspect, chance, text in optional if aspect is focus or random_.random() < chance]
    head = [product.line] if random_.random() < 0.9 else []
    in_title = random_.random() < 0.85
    if in_title:
        head.insert(0, product.brand)
    if random_.random() < 0.5:
        random_.shuffle(parts)
    title = " ".join(head + parts)
    title = title.lower() if random_.random() < 0.02 else title
    brand = product.brand if not in_title or random_.random() < 0.5 else ""
    price = f"{product.price * random_.uniform(0.85, 1.15):.2f}" if random_.random() < 0.6 else ""
    return {"title": title, "brand": brand.lower() if title.islower() else brand, "price": price}


def model_text(product: Product, random_: random.Random) -> str:
    """Spell the model number: `KX-482B`, `KX482B`, `KX 482 B`, `kx482b`."""
    letters, digits, suffix = product.letters, product.digits, product.suffix
    return _spell(
        (
            f"{letters}-{digits}{suffix}",
            f"{letters}{digits}{suffix}",
            f"{letters} {digits}{suffix}",
            f"{letters}-{digits}{'-' if suffix else ''}{suffix}",
            f"{letters}{digits}{suffix}".lower(),
        ),
        random_,
    )


def _spell(forms: Sequence[str], random_: random.Random) -> str:
    """Choose a spelling: the first is the usual one."""
    return forms[0] if random_.random() < USUAL_SPELLING else random_.choice(forms)


_LARGER = {"g": ("kg", 1000.0), "ml": ("l", 1000.0), "GB": ("TB", 1000.0), "m": ("cm", 0.01), "mAh": ("Ah", 1000.0)}


def size_text(product: Product, random_: random.Random) -> str:
    """Spell the size in one of the units it may come in: `500 g`, `500g`, `0.5 kg`, `27"`."""
    unit, size = product.category.unit, product.size
    if unit == "EU":
        return _spell((f"EU{size:g}", f"EU {size:g}", f"size {size:g}", f"sz. {size:g}"), random_)
    forms = [f"{size:g}{unit}", f"{size:g} {unit}", f"{size:g}{unit.lower()}"]
    if unit == "in":
        forms += [f'{size:g}"', f"{size:g}-inch", f"{size:g} inch"]
    if unit in _LARGER:
        larger, factor = _LARGER[unit]
        forms += [f"{size / factor:g} {larger}", f"{size / factor:g}{larger}"]
    return _spell(forms, random_)


def edition_text(product: Product, random_: random.Random) -> str:
    """Spell the generation: `Gen 2`, `2nd gen`, `Mk II`, `V2`."""
    number = product.edition
    ordinal = ("1st", "2nd", "3rd", "4th")[number - 1]
    roman = ("I", "II", "III", "IV")[number - 1]
    return _spell((f"V{number}", f"Gen {number}", f"{ordinal} gen", f"Mk {roman}", f"{ordinal} generation"), random_)


def pack_text(product: Product, random_: random.Random) -> str:
    """Spell the number of pieces: `pack of 4`, `4-pack`, `4 pcs`, `x4`; one piece is `single` or `1 pc`."""
    count = product.pack
    if count == 1:
        return _spell(("1-pack", "single", "1 pc", "x1"), random_)
    return _spell((f"{count}-pack", f"pack of {count}", f"{count} pcs", f"x{count}", f"set of {count}"), random_)


def bundle_text(product: Product, random_: random.Random) -> str:
    """Say whether the accessory is included: `incl. charger`, `w/ charger` or `without charger`, `w/o charger`."""
    accessory = product.category.accessory
    if product.bundle:
        return _spell((f"with {accessory}", f"incl. {accessory}", f"w/ {accessory}", f"plus {accessory}"), random_)
    return _spell((f"without {accessory}", f"w/o {accessory}", f"no {accessory}", f"excl. {accessory}"), random_)


def _noun(product: Product, random_: random.Random) -> str:
    nouns = product.category.nouns
    return _shorten(nouns[0] if random_.random() < USUAL_NOUN else random_.choice(nouns), random_)


def _shorten(text: str, random_: random.Random) -> str:
    """Abbreviate or mistype a noun or colour now and then; quantities and model numbers never come through here."""
    chance = random_.random()
    if chance < 0.2:
        return ABBREVIATIONS.get(text) or " ".join(ABBREVIATIONS.get(word, word) for word in text.split(" "))
    if chance < 0.3 and len(text) >= 5:
        return _mistype(text, random_)
    return text


def _mistype(word: str, random_: random.Random) -> str:
    place = random_.randrange(1, len(word) - 2)
    if random_.random() < 0.5:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return word[:place] + word[place + 1 :]
