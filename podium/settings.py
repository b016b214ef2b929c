"""Settings every service shares: where they come from and what each means.

A value is taken, in this order, from the environment (`PODIUM_*`), from the TOML file that `PODIUM_CONFIG` names, and
from the default here. A secret is never a value: settings name the file that holds it.
"""

import os
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from podium.errors import InvalidArgument

S = TypeVar("S", bound="ServiceSettings")

LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")


class ServiceSettings(BaseSettings):
    """What every service needs: the log, its secrets, its log lines."""

    model_config = SettingsConfigDict(env_prefix="PODIUM_", extra="ignore", frozen=True)

    nats_url: str = Field(default="nats://127.0.0.1:4222", description="Servers of the log, separated by commas.")
    nats_credentials_file: Path = Field(
        default=Path("nats.json"), description="File with the users of the log, mode 0600."
    )
    nats_ca_file: Path | None = Field(
        default=None, description="CA of the log's TLS certificates; needed off loopback."
    )
    nats_replicas: int = Field(
        default=1, ge=1, le=5, description="Copies of the log the server must keep: 3 in production."
    )
    outage_s: float = Field(default=300.0, gt=0, description="How long to keep trying while the log is away, seconds.")
    heartbeat_ttl_s: int = Field(
        default=6, ge=1, le=300, description="Seconds after which a silent runner is missed; the same for all services."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe log line shown."
    )
    log_format: Literal["json", "console"] = Field(default="json", description="Log lines for programs or for people.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources, strongest first."""
        named = os.environ.get("PODIUM_CONFIG")
        if not named:
            return init_settings, env_settings
        if not Path(named).is_file():
            raise InvalidArgument("PODIUM_CONFIG", found=named, expected="a TOML file that can be read")
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, Path(named))


class ListenSettings(ServiceSettings):
    """What a service that answers gRPC needs besides."""

    tokens_file: Path = Field(
        default=Path("tokens.json"), description="Names, roles and hashes of the tokens, mode 0600."
    )
    tls_certificate_file: Path | None = Field(default=None, description="PEM chain; needed to listen off loopback.")
    tls_key_file: Path | None = Field(default=None, description="PEM key of the certificate, mode 0600.")
    stop_grace_s: float = Field(
        default=10.0, ge=0, le=300, description="How long running calls may take at a stop, seconds."
    )


def load(settings: type[S], **given: Any) -> S:
    """Return the settings, or raise InvalidArgument that names the first wrong one as its user wrote it."""
    try:
        return settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = "PODIUM_" + "_".join(str(part) for part in first["loc"]).upper()
        raise InvalidArgument(name, found=first["input"], expected=first["msg"]) from None
