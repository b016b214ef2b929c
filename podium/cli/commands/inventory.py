"""`providers`, `models`, `runners`: what there is to work with."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.text import Text

from podium.cli import client as clients
from podium.cli import output, shapes, tables
from podium.cli.client import Client
from podium.cli.options import Data, Json
from podium.v1 import provider_pb2, runner_pb2
from podium.v1 import session_service_pb2 as api

MIB = 1024 * 1024


def providers(as_json: Json = False, data: Data = None) -> None:
    r"""List the agents that the living runners have.

    \b
    podium providers
    podium providers --json | jq '.[] | {name, version, authentication}'
    """
    output.json_mode(as_json)

    async def work(client: Client) -> list[provider_pb2.Provider]:
        return list((await client.call(client.sessions.ListProviders, api.ListProvidersRequest())).providers)

    listed = clients.run(data, work)
    if _as_json(listed, as_json=as_json):
        return
    made = tables.table("name", "client", "version", "login", "runner", "what to do", keep=("name", "version"))
    for one in listed:
        installed = one.version if one.installed else Text("not installed", style="bad")
        login = shapes.word(provider_pb2.Authentication.DESCRIPTOR, one.authentication) or "unknown"
        made.add_row(one.name, one.display_name, installed, login, one.runner, Text(one.hint))
    tables.show(output.console(), made, empty="no runner lives; start one with `podium up`")


def models(
    provider: Annotated[str, typer.Option("--provider", "-p", help="Only of this provider.", show_default=False)] = "",
    as_json: Json = False,
    data: Data = None,
) -> None:
    r"""List the models to choose from, with the efforts they take.

    \b
    podium models
    podium run --model opus --effort high "…"
    """
    output.json_mode(as_json)

    async def work(client: Client) -> list[provider_pb2.Model]:
        return list((await client.call(client.sessions.ListModels, api.ListModelsRequest(provider=provider))).models)

    listed = clients.run(data, work)
    if _as_json(listed, as_json=as_json):
        return
    made = tables.table(
        "model", "name", "provider", "vendor", "runs", "efforts", "context", right=("context",), keep=("model",)
    )
    for one in listed:
        name = Text(one.value, style="id") + Text(" (default)" if one.is_default else "", style="detail")
        window = f"{one.context_window_tokens:,}" if one.context_window_tokens else ""
        made.add_row(name, one.display_name, one.provider, one.vendor, one.resolved_model, _efforts(one), window)
    tables.show(output.console(), made, empty="no runner has told of its models yet; try again in a few seconds")


def runners(as_json: Json = False, data: Data = None) -> None:
    r"""List the runners that live now.

    \b
    podium runners
    """
    output.json_mode(as_json)

    async def work(client: Client) -> list[runner_pb2.Runner]:
        return list((await client.call(client.sessions.ListRunners, api.ListRunnersRequest())).runners)

    listed = clients.run(data, work)
    if _as_json(listed, as_json=as_json):
        return
    figures = ("turns", "sessions", "load", "memory")
    made = tables.table("id", "host", "pool", *figures, "providers", "up since", right=figures, keep=("id", "up since"))
    now = datetime.now(UTC)
    for one in listed:
        made.add_row(
            Text(one.id, style="id") + Text(" (draining)" if one.draining else "", style="warn"),
            one.host,
            one.pool,
            f"{one.busy} of {one.slots}",
            str(one.sessions),
            f"{one.load:.2f}",
            f"{one.memory_bytes / MIB:,.0f} MiB",
            ", ".join(provider.name for provider in one.providers),
            tables.ago(one.started_at, now),
        )
    tables.show(output.console(), made, empty="no runner lives; start one with `podium up`")


def _as_json(listed: Iterable[Any], *, as_json: bool) -> bool:
    if as_json:
        output.write_json([shapes.plain(one) for one in listed])
    return as_json


def _efforts(model: provider_pb2.Model) -> Text:
    efforts = Text()
    for place, effort in enumerate(model.efforts):
        efforts.append(" " if place else "").append(effort.value, style="bold" if effort.is_default else "")
    return efforts
