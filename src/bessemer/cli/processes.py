"""`up`, `worker`, `demo`: the verbs that run processes instead of asking one."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bessemer.cli.demo.command import demo
from bessemer.cli.options import Session
from bessemer.core.errors import ConfigError
from bessemer.core.settings import Settings, load_settings

SettingsFile = Annotated[Path | None, typer.Option("--settings", help="TOML file of settings.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file of models, prompts, prices, routes; default: <data>/bessemer.toml."),
]
DataFolder = Annotated[Path | None, typer.Option("--data", help="Data folder; default: data.")]
LogLevel = Annotated[str | None, typer.Option("--log-level", help="debug, info, warning, error.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(up)
    app.command()(worker)
    app.command()(demo)


def up(
    context: typer.Context,
    settings_file: SettingsFile = None,
    data: DataFolder = None,
    config: ConfigFile = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option("--port", min=0, max=65535, help="Port; 0: any free one.")] = None,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", help="PEM file of the certificate: serve TLS.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="PEM file of the certificate's key.")] = None,
    log_level: LogLevel = None,
    with_worker: Annotated[bool, typer.Option("--worker/--no-worker", help="Run the worker of jobs, too.")] = True,
) -> None:
    """Start the API and the worker on this machine. Prints the URL and, the first time, where the admin key is."""
    settings = _settings(
        context,
        settings_file,
        data=data,
        config=config,
        host=host,
        port=port,
        tls_cert=tls_cert,
        tls_key=tls_key,
        log_level=log_level,
    )
    from bessemer.identity.admin_key import ADMIN_KEY_FILE
    from bessemer.runtime.serve import Started, serve

    def announce(started: Started) -> None:
        sys.stdout.write(f"Bessemer listens on {started.url}\n")
        if started.admin_key is not None:
            # What is not a terminal is a log, and a key in a log is everybody's.
            shown = f"; shown once: {started.admin_key}" if sys.stdout.isatty() else ""
            sys.stdout.write(f"Admin key in {settings.data / ADMIN_KEY_FILE} (mode 600){shown}\n")
        sys.stdout.flush()

    serve(settings, announce, worker=with_worker)


def worker(
    context: typer.Context,
    settings_file: SettingsFile = None,
    data: DataFolder = None,
    config: ConfigFile = None,
    log_level: LogLevel = None,
    supervised: Annotated[
        bool, typer.Option("--supervised", help="End when standard input ends (set by `bessemer up`).")
    ] = False,
) -> None:
    """Run the worker of jobs alone, against the same data folder or database."""
    settings = _settings(context, settings_file, data=data, config=config, log_level=log_level)
    from bessemer.runtime.worker import work

    work(settings, supervised=supervised)


def _settings(context: typer.Context, file: Path | None, *, data: Path | None, **flags: Any) -> Settings:
    """Return settings from file, environment and flags; `--data` may stand before or after the verb."""
    session = context.find_object(Session)
    if data is None and session is not None:
        data = session.data
    settings = load_settings(file, data=data, **flags)
    if settings.config is not None and not settings.config.is_file():
        raise ConfigError(f"The configuration file {str(settings.config)!r} does not exist.", param="config")
    return settings
