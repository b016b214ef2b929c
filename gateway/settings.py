"""What the gateway can be told."""

from pathlib import Path

from pydantic import Field

from podium.settings import ListenSettings


class GatewaySettings(ListenSettings):
    """Settings of `python -m gateway`."""

    listen: str = Field(default="127.0.0.1:7460", description="HOST:PORT of the public API; port 0 = any free one.")
    indexer_address: str = Field(default="127.0.0.1:7461", description="HOST:PORT of the indexer.")
    indexer_token_file: Path = Field(
        default=Path("indexer.token"), description="File with the gateway's token, mode 0600."
    )
    indexer_ca_file: Path | None = Field(
        default=None, description="CA of the indexer's certificate; needed off loopback."
    )
    default_provider: str = Field(
        default="claude", description="Provider when a session names neither provider nor model."
    )
    default_pool: str = Field(default="default", description="Pool when a session names none.")
    default_workspace: str = Field(
        default="default", description="Workspace when a session names neither name nor folder."
    )
    approval_deadline_s: int = Field(
        default=3600,
        ge=0,
        le=30 * 86_400,
        description="Seconds a question waits when the session does not say; 0 = for ever.",
    )
    sweep_interval_s: float = Field(
        default=30.0, gt=0, le=3600, description="Seconds between looks for forgotten sessions."
    )
