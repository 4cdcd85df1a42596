"""Fits every rung on public sets, beside plain scikit-learn on the same rows, and writes results/ladder.json.

python -m lab.ladder --root ../shared/data [--sets NAME,...] [--seeds 0,1,2] [--quick]      development
python -m lab.ladder --root ../shared/data --final                                            the single final scoring
python -m lab.ladder --name NAME --train FILE --test FILE [--fields titles] --final           any other set

In development a quarter of the training groups stands in for the test, and nothing sealed is read (`sealed.py`). Rows
that are in the results already are not measured again, so a run may be stopped and started. `--encoder FOLDER` names
the sentence encoder that the rung `embedding` is distilled from and that `encoder` reads, `--model FILE` the language
model whose states `states` reads; without them these rungs are left out.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bessemer.core.errors import BessemerError, InvalidRequest
from bessemer.core.routes import ConfidenceScore
from bessemer.engine.rungs import committee
from bessemer.engine.rungs.artefact import encode
from bessemer.engine.rungs.embedding import StaticEmbedding
from bessemer.engine.rungs.head import Head, HeadKind, Vectorise, Vectors
from bessemer.engine.rungs.kinds import MEMBERS, open_rung
from bessemer.engine.rungs.rung import Flags, Floats, RungItem
from bessemer.evals import calibration
from bessemer.evals.confidence import fit_confidence
from bessemer.evals.metrics import Terms, label_terms
from bessemer.evals.statistics import terms_interval
from bessemer.ladder.distil import kept
from bessemer.ladder.fit import KINDS, RungFit, fit, suits
from bessemer.ladder.groups import grouped
from bessemer.ladder.lessons import Lesson, folds_of, labels_of
from bessemer.ladder.task import FittedMember, VectorSource
from lab.ladder_baselines import BASELINES, COUNTERPART
from lab.ladder_sets import LadderSet, calls, offers, read
from lab.provenance import commit, processor
from lab.sealed import Seal

RESULTS = Path(__file__).parent / "results" / "ladder.json"
SIZES = (50, 200, 1000)
HOURLY = 0.10264
"""USD, of AWS c7a.large, Linux, us-east-1, on demand (2025-01): two cores, of which a rung uses one."""
_TIMED = 200
"""Requests that are timed one by one."""
_ALONE = 2
"""Texts of one request: a pair of records has two."""
_LOGGER = 0.55
"""How often the simulated incumbent, whose answers get verdicts, is right when there are more than two labels."""


class RungScores(NamedTuple):
    """What a model said of the test: for each item the answer, its probability, whether it is right."""

    answers: list[str]
    confidence: Floats
    right: Floats
    seconds: float
    """Mean of one request alone."""


def known_sets(root: Path, seal: Seal) -> dict[str, Callable[[int], LadderSet]]:
    """Return how to read each set, for a seed."""
    final = seal is Seal.FINAL

    def file(name: str, train: str, test: str, fields: str = "all") -> Callable[[int], LadderSet]:
        return lambda _seed: read(name, root / train, root / test if final else None, fields)

    matching = "record_matching/"
    dblp = matching + "dblp-scholar.train.jsonl.gz", matching + "dblp-scholar.test_full.jsonl.gz"
    amazon = matching + "amazon-google.train.jsonl", matching + "amazon-google.test_full.jsonl"
    return {
        "amazon-google": file("amazon-google", *amazon),
        "dblp-scholar": file("dblp-scholar", *dblp),
        "dblp-scholar titles": file("dblp-scholar titles", *dblp, "titles"),
        "banking77": file("banking77", "banking77/train.csv", "banking77/test.csv"),
        "offers": lambda seed: offers("offers", seed, seal),
        "function calls": lambda _seed: calls("function calls", root / "function_calls/multiple.jsonl", seal),
    }


def main() -> int:
    """Measure what is asked for; return 1 when a set could not be read."""
    arguments = _arguments()
    seal = Seal.FINAL if arguments.final else Seal.DEVELOPMENT
    sets = known_sets(arguments.root, seal)
    if arguments.name:
        test = arguments.test if arguments.final else None
        sets = {arguments.name: lambda _seed: read(arguments.name, arguments.train, test, arguments.fields)}
    unknown = sorted(set(arguments.sets or ()) - sets.keys())
    if unknown:
        print(f"--sets: unknown {unknown[0]!r}; known: {', '.join(sets)}", file=sys.stderr)
        return 2
    tools = _tools(arguments)
    document = Document(arguments.out, seal)
    failed = 0
    for seed in arguments.seeds:
        for name in arguments.sets or sets:
            try:
                MeasuredSet(_developed(sets[name](seed), seed, seal), document, seed, tools, arguments).run()
            except BessemerError as error:
                print(f"{name}: {error.message}", file=sys.stderr)
                failed += 1
    return 1 if failed else 0


class FittingTools(NamedTuple):
    """What some kinds need to be fitted."""

    static: StaticEmbedding | None
    networks: dict[str, VectorSource]


def _tools(arguments: argparse.Namespace) -> FittingTools:
    networks: dict[str, VectorSource] = {}
    static = None
    if arguments.encoder:
        from bessemer.engine.embedder import Embedder

        static, encoder = kept(arguments.encoder, arguments.data / "static.safetensors"), Embedder(arguments.encoder)
        embed = lambda texts: np.array(encoder.embed(list(texts)), np.float32)  # noqa: E731 - one line, used once
        networks[HeadKind.ENCODER] = VectorSource(encoder.fingerprint, _Remembered(embed).vectors)
    if arguments.model:
        from bessemer.engine.engine import load_model
        from bessemer.engine.states import states

        network, tokens = load_model(arguments.model)
        made = _Remembered(lambda texts: states(network, tokens, texts))
        networks[HeadKind.STATES] = VectorSource(arguments.model.name, made.vectors)
    return FittingTools(static, networks)


class _Remembered:
    """Vectors of texts, made once: one request alone is computed anew, because it is timed."""

    def __init__(self, vectorise: Vectorise) -> None:
        self._vectorise = vectorise
        self._known: dict[str, Vectors] = {}

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """Return [n, width]."""
        if len(texts) <= _ALONE:
            return self._vectorise(texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known |= dict(zip(new, self._vectorise(new), strict=True))
        return np.stack([self._known[text] for text in texts])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("../shared/data"), help="folder of the known sets")
    parser.add_argument("--sets", type=lambda text: text.split(","), help="known sets, by comma; default: all")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--name", help="name of a set given by --train and --test")
    parser.add_argument("--train", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--fields", choices=("all", "titles"), default="all")
    parser.add_argument("--rungs", type=lambda text: text.split(","), help="kinds and baselines; default: all")
    parser.add_argument("--sizes", type=lambda text: [int(n) for n in text.split(",")], default=list(SIZES))
    parser.add_argument("--quick", action="store_true", help="1,000 labels at most, 500 test items")
    parser.add_argument("--final", action="store_true", help="score on the sealed test")
    parser.add_argument("--encoder", type=Path, help="folder of a sentence encoder")
    parser.add_argument("--model", type=Path, help="file of a language model of the built-in engine")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where what is distilled is kept")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.name and not (arguments.train and arguments.test):
        parser.error("--name needs --train and --test")
    return arguments


def _developed(found: LadderSet, seed: int, seal: Seal) -> LadderSet:
    """Return the set with groups; in development a quarter of them is the test."""
    train = grouped(found.train)
    if seal is Seal.FINAL:
        return found._replace(train=train)
    folds = folds_of(train, 4, 1000 + seed)
    return found._replace(
        train=[one for one, fold in zip(train, folds, strict=True) if fold],
        test=[one for one, fold in zip(train, folds, strict=True) if not fold],
    )


class Document:
    """The results file."""

    def __init__(self, path: Path, seal: Seal) -> None:
        self._path = path
        self._document: dict[str, Any] = {"rows": [], "cascades": []}
        if path.exists():
            self._document = json.loads(path.read_text())
        self._document |= {
            "machine": processor(),
            "scored_on": seal.value,
            "metric": "F1 of Yes for pairs, accuracy for other sets, in percent",
            "hourly_usd": HOURLY,
        }

    def has(self, key: tuple[object, ...]) -> bool:
        """Whether there is a row of this set, rung, seed, number of labels and feedback."""
        return any(_key(row) == key for row in self._document["rows"])

    def add(self, row: dict[str, Any]) -> None:
        """Write a row."""
        kept_rows = [one for one in self._document["rows"] if _key(one) != _key(row)]
        self._document["rows"] = sorted([*kept_rows, row], key=lambda one: tuple(map(str, _key(one))))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self._document, indent=1) + "\n")


def _key(row: dict[str, Any]) -> tuple[object, ...]:
    return tuple(row[name] for name in ("data", "rung", "seed", "asked_labels", "feedback"))


class MeasuredSet:
    """One set, one seed."""

    def __init__(
        self,
        found: LadderSet,
        document: Document,
        seed: int,
        tools: FittingTools,
        arguments: argparse.Namespace,
    ) -> None:
        self._set, self._document, self._seed, self._tools = found, document, seed, tools
        self._members: dict[str, RungFit] = {}
        """Of the present lessons, by kind: a committee of them need not fit them again."""
        self._arguments = arguments
        self._test = found.test[:500] if arguments.quick and not found.choices else found.test

    def run(self) -> None:
        """Measure every rung and baseline at every number of labels."""
        wanted = self._arguments.rungs or [*BASELINES, *KINDS]
        sizes: list[int | str] = [n for n in self._arguments.sizes if n < len(self._set.train)]
        if not self._arguments.quick:
            sizes.append("all")
        for size in sizes:
            lessons = self._drawn(size)
            for feedback in ("labels", "right_wrong") if self._judges(size) else ("labels",):
                self._members.clear()
                for rung in wanted:
                    if feedback == "labels":
                        self._one(rung, lessons, size, feedback)
                    elif rung in KINDS and rung != "majority":
                        self._one(rung, self._judged(lessons), size, feedback)

    def _judges(self, size: int | str) -> bool:
        """Whether verdicts are learned from, too: between two labels they say what labels say, so once is enough."""
        return not self._set.choices and (size == 1000 or (size == "all" and self._set.positive is None))

    def _drawn(self, size: int | str) -> list[Lesson]:
        """Return so many lessons, whole groups where the test asks for choices; each label at least once if it can."""
        order = np.random.default_rng(self._seed).permutation(len(self._set.train))
        shuffled = [self._set.train[place] for place in order]
        if size == "all":
            return shuffled
        if self._set.choices:
            groups = list(dict.fromkeys(one.group for one in shuffled))
            counts, taken = 0, set[str]()
            for group in groups:
                if counts >= int(size):
                    break
                taken.add(group)
                counts += sum(one.group == group for one in shuffled)
            return [one for one in shuffled if one.group in taken]
        return shuffled[: int(size)]

    def _judged(self, lessons: Sequence[Lesson]) -> list[Lesson]:
        """Return verdicts on the answers of an incumbent that is right at a stated rate; wrong ones are uniform."""
        random_ = np.random.default_rng(self._seed + 77)
        labels = labels_of(self._set.train)
        judged = []
        for one in lessons:
            others = [label for label in labels if label != one.answer]
            right = random_.random() < (0.9 if len(labels) == 2 else _LOGGER)
            answer = one.answer if right else others[int(random_.integers(len(others)))]
            judged.append(one._replace(answer=answer, right=float(right)))
        return judged

    def _one(self, rung: str, lessons: Sequence[Lesson], size: int | str, feedback: str) -> None:
        key = (self._set.name, rung, self._seed, size, feedback)
        if self._document.has(key):
            return
        row: dict[str, Any] = dict(zip(("data", "rung", "seed", "asked_labels", "feedback"), key, strict=True))
        row |= {"n_labels": len(lessons), "n_test": len(self._test), "commit": commit()}
        began = time.perf_counter()
        try:
            made = _baseline(rung, lessons, self._set, self._seed) if rung in BASELINES else self._fitted(rung, lessons)
        except (InvalidRequest, ValueError) as reason:
            self._document.add(row | {"f1_or_accuracy": None, "ci95": None, "skipped": str(reason)[:200]})
            return
        row["fit_s"] = round(made.told.pop("fit_s", time.perf_counter() - began), 2)
        scored = made.score(self._set, self._test)
        interval = terms_interval(_terms(self._set, self._test, scored), resamples=2000)
        error = None if self._set.choices else calibration.ece(made.calibrated(scored.confidence), scored.right)
        row |= {
            "f1_or_accuracy": round(100 * interval.value, 2),
            "ci95": [round(100 * interval.low, 2), round(100 * interval.high, 2)],
            "ms_per_request": round(1e3 * scored.seconds, 4),
            "usd_per_1k": round(scored.seconds * HOURLY / 3600 * 1000, 8),
            "calibrated_ece": None if error is None else round(error, 4),
            **made.told,
        }
        self._document.add(row)
        if size == "all" and feedback == "labels":
            self._keep(rung, made, scored)
        told = f"{row['f1_or_accuracy']} {row['ci95']}, fit {row['fit_s']} s, {row['ms_per_request']} ms"
        print(f"{self._set.name}, {size} labels, seed {self._seed}: {rung} ({feedback}) {told}", flush=True)

    def _keep(self, rung: str, made: "ScoredModel", scored: RungScores) -> None:
        """Keep what was said of each test item, for cascades."""
        file = self._arguments.data / "outcomes" / f"{self._set.name} {rung} {self._seed}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        outcomes = {
            "seconds": scored.seconds,
            "answers": scored.answers,
            "confidence": made.calibrated(scored.confidence).tolist(),
            "right": scored.right.tolist(),
        }
        file.write_text(json.dumps(outcomes))

    def _fitted(self, rung: str, lessons: Sequence[Lesson]) -> "ScoredModel":
        static, networks = self._tools
        reason = suits(rung, lessons, static, networks)
        if reason is not None:
            raise InvalidRequest(reason, param="rungs")
        labels = None if self._set.positive else labels_of(self._set.train)
        suited = [kind for kind in MEMBERS if suits(kind, lessons, static) is None]
        members = self._members if rung == committee.KIND and len(self._members) == len(suited) else {}
        made = fit(
            rung,
            lessons,
            labels=labels,
            positive=self._set.positive,
            seed=self._seed,
            static=static,
            networks=networks,
            members=[FittedMember(one.artefact, one.out_of_fold) for one in members.values()],
        )
        if rung in MEMBERS:
            self._members[rung] = made
        opened = open_rung(made.artefact)
        if isinstance(opened, Head):
            opened.vectorise = networks[opened.kind].vectors
        rows = np.flatnonzero(np.isfinite(made.out_of_fold).all(axis=1) & (made.truth >= 0))
        places = _biased(made.out_of_fold[rows], made.artefact.manifest.bias)
        top = made.out_of_fold[rows, places]
        right = places == made.truth[rows]

        def calibrated(confidence: Floats) -> Floats:
            if len(rows) < 10:
                return confidence
            found = fit_confidence(
                top,
                right,
                version="",
                score=ConfidenceScore.TOP_PROBABILITY,
                dataset_sha256="",
                pair=False,
            )
            return calibration.apply(found, confidence)

        def predict(items: Sequence[RungItem]) -> tuple[Floats, Flags]:
            said = opened.predict(items)
            return said.probabilities, opened.outside(said)

        told: dict[str, Any] = {
            "artefact_bytes": sum(map(len, encode(made.artefact))),
            "sha256": made.artefact.sha256[:16],
            "fit_s": made.seconds + sum(one.seconds for one in members.values()),
        }
        return ScoredModel(
            list(opened.labels), predict, lambda p: _biased(p, made.artefact.manifest.bias), calibrated, told
        )


class ScoredModel(NamedTuple):
    """A fitted rung or baseline, as it is scored."""

    labels: list[str]
    predict: Callable[[Sequence[RungItem]], tuple[Floats, Flags]]
    """Probabilities [n, k], and which items are outside its scope."""
    decide: Callable[[Floats], Any]
    """The place of the answer."""
    calibrated: Callable[[Floats], Floats]
    told: dict[str, Any]

    def score(self, found: LadderSet, test: Sequence[Lesson]) -> RungScores:
        """Answer the test, and time some of it one by one."""
        items = [one.item for one in test]
        parts = [self.predict(items[begin : begin + 256]) for begin in range(0, len(items), 256)]
        p, outside = (np.concatenate([part[at] for part in parts]) for at in (0, 1))
        places = self.decide(p)
        answers = [self.labels[place] for place in places]
        times = []
        for item in items[:_TIMED]:
            began = time.perf_counter()
            self.predict([item])
            times.append(time.perf_counter() - began)
        self.told["p50_ms"], self.told["p99_ms"] = (round(1e3 * float(np.quantile(times, q)), 4) for q in (0.5, 0.99))
        self.told["outside"] = round(float(outside.mean()), 4)
        if found.choices:
            answers = _chosen(test, p[:, self.labels.index("Yes")] if "Yes" in self.labels else p[:, 0])
        right = np.array([a == one.answer for a, one in zip(answers, test, strict=True)], dtype=np.float64)
        return RungScores(answers, p[np.arange(len(p)), places], right, float(np.mean(times)))


def _baseline(rung: str, lessons: Sequence[Lesson], found: LadderSet, seed: int) -> ScoredModel:
    if "similarities" in rung and lessons[0].item.input is None:
        raise InvalidRequest("the requests are no pairs of records", param="rungs")
    made = BASELINES[rung](lessons, found.positive, seed)

    def decide(p: Floats) -> Any:
        if found.positive is None or found.positive not in made.labels or len(made.labels) != 2:
            return p.argmax(axis=1)
        place = made.labels.index(found.positive)
        return np.where(p[:, place] >= made.threshold, place, 1 - place)

    def predict(items: Sequence[RungItem]) -> tuple[Floats, Flags]:
        return np.asarray(made.predict(items)), np.zeros(len(items), np.bool_)

    return ScoredModel(made.labels, predict, decide, lambda confidence: confidence, {})


def _biased(p: Floats, bias: Sequence[float]) -> Any:
    with np.errstate(divide="ignore"):
        return (np.log(p) + (np.array(bias) if bias else 0.0)).argmax(axis=1)


def _chosen(test: Sequence[Lesson], p: Floats) -> list[str]:
    """Return Yes for the likeliest offer of each group, No for the others."""
    best: dict[str, int] = {}
    for place, one in enumerate(test):
        if one.group not in best or p[place] > p[best[one.group]]:
            best[one.group] = place
    return ["Yes" if best[one.group] == place else "No" for place, one in enumerate(test)]


def _terms(found: LadderSet, test: Sequence[Lesson], scored: RungScores) -> list[Terms]:
    if found.choices:
        places = [place for place, answer in enumerate(scored.answers) if answer == "Yes"]
        return [Terms(float(scored.right[place]), 1.0) for place in places]
    if found.positive is None:
        return [Terms(float(right), 1.0) for right in scored.right]
    return [label_terms(a, one.answer, found.positive) for a, one in zip(scored.answers, test, strict=True)]


def worse_than_plain(rows: Sequence[dict[str, Any]], margin: float = 0.3) -> list[str]:
    """Return where a rung is worse than its plain counterpart by more than `margin` points (L4)."""
    figures = {_key(row): row["f1_or_accuracy"] for row in rows if row["f1_or_accuracy"] is not None}
    found = []
    for (data, rung, seed, size, feedback), figure in figures.items():
        plain = figures.get((data, COUNTERPART.get(str(rung)), seed, size, feedback))
        if plain is not None and figure < plain - margin:
            found.append(f"{data}, {size} labels, seed {seed}: {rung} {figure} < {plain}")
    return found


if __name__ == "__main__":
    sys.exit(main())
