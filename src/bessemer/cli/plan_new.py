"""`plan new`: the few questions that matter, by flags or asked on a terminal, and a commented workload file."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bessemer.cli.options import AsJson
from bessemer.cli.output import show_change
from bessemer.core.errors import ConfigError

_TEMPLATE = """\
# A workload for `bessemer plan {file}`. Every field is explained in docs/planner.md; unknown fields are refused.
name = {name}

[traffic]
requests_per_month = {requests}
growth_per_month = {growth}       # 0.03: three percent more each month
weekend = 0.5                # requests of a weekend day over those of a weekday
batch_share = {batch}            # requests that may wait until the deadline
batch_deadline_hours = 24
# hours = [24 loads]         # the shape of the day; without it, business hours

[traffic.prompt_tokens]      # log-normal by mean and 95th percentile
mean = {prompt}
p95 = {prompt_p95}

[traffic.output_tokens]
mean = {answer}
p95 = {answer_p95}

[limits]                     # kept by this share of the requests
ttft_s = {ttft}                 # time to first token, seconds
tpot_s = {tpot}                # time per output token after the first, seconds
percentile = 0.95
{models}
{cascade}
[sovereignty]                # empty: no limit
regions = {regions}                 # prefixes, e.g. ["eu-"]
ownership = {ownership}

[money]
{budget}
[time]
horizon_months = 36
{lead}
[fleet]
spares = 1                   # replicas beyond what the load needs
# accelerators = ["h100_sxm", "b200_sxm"]
"""
_OWNERS = ("cloud", "ai_factory", "own")


def new(
    file: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("plan.toml"),
    requests: Annotated[float | None, typer.Option("--requests", min=1, help="Requests a month.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="The model that answers.")] = None,
    small: Annotated[
        str | None, typer.Option("--small", help="A smaller model that answers first and hands over the rest.")
    ] = None,
    escalated: Annotated[
        float, typer.Option("--escalated", min=0, max=1, help="Share that the small model hands over.")
    ] = 0.2,
    prompt: Annotated[float | None, typer.Option("--prompt", min=1, help="Mean prompt tokens.")] = None,
    answer: Annotated[float | None, typer.Option("--answer", min=1, help="Mean answer tokens.")] = None,
    ttft: Annotated[float | None, typer.Option("--ttft", help="Limit of the time to first token, seconds.")] = None,
    tpot: Annotated[float | None, typer.Option("--tpot", help="Limit of the time per token, seconds.")] = None,
    growth: Annotated[float, typer.Option("--growth", help="Growth a month.")] = 0.0,
    batch: Annotated[float, typer.Option("--batch", min=0, max=1, help="Share that may wait.")] = 0.0,
    region: Annotated[list[str] | None, typer.Option("--region", help="Allowed region prefix; repeat.")] = None,
    owner: Annotated[list[str] | None, typer.Option("--owner", help="cloud, ai_factory or own; repeat.")] = None,
    budget: Annotated[float | None, typer.Option("--budget", min=1, help="USD a month at most.")] = None,
    lead: Annotated[float | None, typer.Option("--lead", min=0, help="Months until it must serve.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over an existing file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a commented workload file; on a terminal, what flags leave open is asked."""
    if file.exists() and not force:
        raise ConfigError(f"{str(file)!r} exists; choose another name, or --force.", param="file")
    text = _text(
        file,
        requests=_ask(requests, "Requests a month", 1_000_000.0),
        model=_ask(model, "Model", "llama-3.1-8b"),
        small=small,
        escalated=escalated,
        prompt=_ask(prompt, "Mean prompt tokens", 1000.0),
        answer=_ask(answer, "Mean answer tokens", 300.0),
        ttft=_ask(ttft, "Time to first token at most, seconds", 2.0),
        tpot=_ask(tpot, "Time per token at most, seconds", 0.05),
        growth=growth,
        batch=batch,
        region=region or [],
        owner=owner or list(_OWNERS),
        budget=budget,
        lead=lead,
    )
    from bessemer_planner.workload import parse_workload

    parse_workload(text)
    try:
        file.write_text(text)
    except OSError as error:
        raise ConfigError(f"Cannot write {str(file)!r}: {error.strerror}.", param="file") from None
    show_change(str(file), {"file": str(file)}, f"{file} written; next: bessemer plan {file}", as_json=as_json)


def _ask(given: Any, question: str, default: Any) -> Any:
    if given is not None:
        return given
    return typer.prompt(question, default=default, err=True) if sys.stdin.isatty() else default


def _text(file: Path, **answers: Any) -> str:
    models = [name for name in (answers["small"], answers["model"]) if name is not None]
    cascade = ""
    if answers["small"] is not None:
        cascade = (
            "\n[cascade]                    # the small model sees every request\n"
            f"small = {_quoted(answers['small'])}\n"
            f"large = {_quoted(answers['model'])}\nescalated = {answers['escalated']:g}\n"
        )
    budget = f"budget_per_month = {answers['budget']:g}" if answers["budget"] else "# budget_per_month = 50000"
    lead = f"lead_time_months = {answers['lead']:g}" if answers["lead"] is not None else "# lead_time_months = 6"
    return _TEMPLATE.format(
        file=file,
        name=_quoted(file.stem),
        requests=f"{answers['requests']:.0f}",
        growth=answers["growth"],
        batch=answers["batch"],
        prompt=answers["prompt"],
        prompt_p95=2.5 * answers["prompt"],
        answer=answers["answer"],
        answer_p95=2.5 * answers["answer"],
        ttft=answers["ttft"],
        tpot=answers["tpot"],
        models="".join(f"\n[[models]]\nname = {_quoted(name)}\n" for name in models).rstrip("\n"),
        cascade=cascade,
        regions=_list(answers["region"]),
        ownership=_list(answers["owner"]),
        budget=budget + "\n",
        lead=lead + "\n",
    )


def _quoted(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False)


def _list(items: list[str]) -> str:
    return f"[{', '.join(_quoted(item) for item in items)}]"
