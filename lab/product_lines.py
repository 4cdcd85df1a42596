"""A writing task with rules that no demonstration covers: a short product line from attributes.

The demonstrations are a copywriter's, and only for easy items: metric sizes, short lists, no claims. The rules for the
rest (at most 60 characters, no forbidden claim, metric units alone) live in a grader, in OpenAI's python form. What a
reinforced model does better than a supervised one on this task is what the reward added.
"""

import random

from bessemer.cli.demo.catalogue import BRANDS, LINES
from bessemer.core.content import content_hash
from bessemer.core.types import JSON, Frozen

LIMIT = 60
CLAIMS = ("best on the market", "100% safe", "world's no. 1", "cheapest ever", "doctor approved", "guaranteed results")
SIZES = (
    ("8 oz", "227 g"), ("12 oz", "340 g"), ("16 oz", "454 g"), ("2 lb", "907 g"), ("10 in", "25 cm"),
    ("12 in", "30 cm"), ("24 in", "61 cm"), ("1 gal", "3.8 l"), ("16 fl oz", "473 ml"), ("34 fl oz", "1 l"),
)  # fmt: skip
NOUNS = ("hand soap", "dog biscuits", "desk lamp", "green tea", "storage box", "wood polish", "body lotion", "oat bars")
FEATURES = (
    "refillable", "fragrance free", "recycled pack", "slow roasted", "dimmable", "vegan", "stackable", "organic",
    "made with rainwater", "hand finished", "no added sugar", "low energy use", "child lock", "quick drying",
)  # fmt: skip

PROMPT = (
    "Write one product line for the shop.\nBrand: {{input.brand}}\nName: {{input.name}}\nProduct: {{input.product}}\n"
    "Size: {{input.size}}\nFeatures: {{input.features}}\nLine:"
)

GRADER_SOURCE = '''\
"""Reward of a product line: 0 without brand or product, else the mean of four rules kept."""
CLAIMS = {claims!r}
IMPERIAL = ("oz", "lb", "gal", "inch", "fl oz")


def grade(sample, item):
    line = sample["output_text"].strip()
    words = line.lower()
    facts = item["input"]
    if not line or facts["brand"].lower() not in words or facts["product"].lower() not in words:
        return 0.0
    metric = facts["size"].split(" / ")[-1]
    features = [f for f in facts["features"].split(", ") if f.lower() not in CLAIMS]
    tokens = words.replace(",", " ").replace("/", " ").split()
    imperial = any(unit in tokens for unit in IMPERIAL) or any(
        tokens[i].replace(".", "").isdigit() and tokens[i + 1] == "in" for i in range(len(tokens) - 1)
    )
    rules = (
        len(line) <= {limit} and "\\n" not in line,
        not any(claim in words for claim in CLAIMS),
        metric.lower() in words and not imperial,
        any(feature.lower() in words for feature in features),
    )
    return sum(rules) / len(rules)
'''


class Brief(Frozen, frozen=True):
    """One item of the task; `demonstration` is there only where the copywriter's easy line keeps every rule."""

    input: JSON
    demonstration: str | None


def grader() -> JSON:
    """Return the grader of the rules, in OpenAI's form for `method.reinforcement.grader`."""
    return {
        "type": "python",
        "name": "product-line-rules",
        "source": GRADER_SOURCE.format(claims=CLAIMS, limit=LIMIT),
    }


def generate(count: int, seed: int, *, easy_share: float = 0.4) -> tuple[Brief, ...]:
    """Return `count` briefs with different inputs, `easy_share` of them easy and demonstrated; seeded."""
    random_ = random.Random(f"product-lines-{seed}")
    briefs: dict[str, Brief] = {}
    while len(briefs) < count:
        brief = _easy(random_) if random_.random() < easy_share else _hard(random_)
        briefs.setdefault(content_hash(brief.input), brief)
    return tuple(briefs.values())


def _facts(random_: random.Random) -> dict[str, str]:
    return {
        "brand": random_.choice(BRANDS),
        "name": f"{random_.choice(LINES)} {random_.randint(1, 99)}",
        "product": random_.choice(NOUNS),
        "size": " / ".join(random_.choice(SIZES)),
        "features": ", ".join(random_.sample(FEATURES, 3)),
    }


def _easy(random_: random.Random) -> Brief:
    facts = _facts(random_)
    facts["size"] = facts["size"].split(" / ")[-1]
    facts["features"] = facts["features"].split(", ")[0]
    line = f"{facts['brand']} {facts['name']} {facts['product']}, {facts['size']}, {facts['features']}"
    if len(line) > LIMIT:
        line = line.replace(f" {facts['name']}", "", 1)
    return Brief(input=dict(facts), demonstration=line)


def _hard(random_: random.Random) -> Brief:
    facts = _facts(random_)
    features = facts["features"].split(", ")
    features.insert(random_.randrange(len(features) + 1), random_.choice(CLAIMS))
    facts["features"] = ", ".join(features)
    return Brief(input=dict(facts), demonstration=None)
