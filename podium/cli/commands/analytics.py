"""`usage` and `sql`: what sessions cost and did."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import orjson
import typer

from podium.cli import client as clients
from podium.cli import output, queries, shapes, tables, times
from podium.cli.client import Client
from podium.cli.options import Data, Json
from podium.errors import InvalidArgument
from podium.v1 import analytics_service_pb2 as api

TABLE_ROWS_MAX = 1000
SQL_BYTES_MAX = 1024 * 1024


def usage(
    by: Annotated[
        str,
        typer.Option(
            "--by",
            "-b",
            metavar="DIMENSION[,…]",
            help="model, provider, workspace, session, turn, day, runner, principal.",
        ),
    ] = "model",
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="From then on: 2026-11-01, 7d …", show_default=False)
    ] = "",
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="Before then.", show_default=False)] = "",
    time_zone: Annotated[str, typer.Option("--tz", metavar="ZONE", help="Time zone of days and times.")] = "UTC",
    session: Annotated[
        str, typer.Option("--session", "-s", metavar="SESSION", help="Only of this session.", show_default=False)
    ] = "",
    as_json: Json = False,
    data: Data = None,
) -> None:
    r"""Show tokens and cost.

    Cost is what the providers tell; a sum begins with ≥ when a call did not tell all its tokens.

    \b
    podium usage
    podium usage --by day,model --since 7d --tz Europe/Berlin
    podium usage --by turn --session last
    """
    output.json_mode(as_json)
    dimensions = [_dimension(word.strip()) for word in by.split(",") if word.strip()]
    now = datetime.now(UTC)
    request = api.GetUsageRequest(
        group_by=[number for _, number in dimensions],
        since=times.timestamp(since, "--since", zone=time_zone, now=now),
        until=times.timestamp(until, "--until", zone=time_zone, now=now),
        time_zone=time_zone,
    )

    async def work(client: Client) -> api.GetUsageResponse:
        request.session = await client.session_name(session) if session else ""
        request.at_least_position = await client.log_position()
        answer: api.GetUsageResponse = await client.call(client.analytics.GetUsage, request)
        return answer

    answer = clients.run(data, work)
    words = [word for word, _ in dimensions]
    if as_json:
        output.write_json([shapes.usage_row(words, row) for row in answer.rows])
    else:
        tables.show(output.console(), tables.usage(words, answer.rows), empty="no tokens were used")


def sql(
    query: Annotated[
        str | None, typer.Argument(metavar="QUERY", help="One SELECT; `-` reads standard input.", show_default=False)
    ] = None,
    *,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="Read it from a file.", show_default=False)
    ] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--param", metavar="VALUE", help="Value of $1, $2 …: JSON, or text; may repeat.")
    ] = None,
    rows_max: Annotated[
        int, typer.Option("--max-rows", min=0, help="At most so many rows; 0 = 1,000 in a table, else all.")
    ] = 0,
    stale: Annotated[bool, typer.Option("--stale", help="Do not wait for what was done last.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a row and line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
    as_arrow: Annotated[bool, typer.Option("--arrow", help="The Arrow IPC stream itself.")] = False,
    data: Data = None,
) -> None:
    r"""Ask the tables one SELECT; docs/sql.md describes them.

    \b
    podium sql "SELECT title, status, input_tokens FROM sessions ORDER BY created_at DESC LIMIT 20"
    podium sql "SELECT role, content FROM session_messages WHERE session_id = \$1" --param 01f2…
    podium sql --csv -f spending.sql > spending.csv
    """
    output.json_mode(as_json)
    form = _form(as_json=as_json, as_csv=as_csv, as_arrow=as_arrow)
    request = api.QueryRequest(
        sql=_statement(query, file),
        parameters_json=orjson.dumps([_value(text) for text in parameter or []]).decode() if parameter else "",
        max_rows=rows_max or (TABLE_ROWS_MAX if form == "table" else 0),
    )

    async def work(client: Client) -> queries.Told:
        if not stale:
            request.at_least_position = await client.log_position()
        return await queries.write(client, request, form, output.console())

    told = clients.run(data, work)
    if form == "table" or told.truncated:
        more = "; there are more, see --max-rows" if told.truncated else ""
        rows = "1 row" if told.rows == 1 else f"{told.rows:,} rows"
        output.console(stderr=True).print(f"[detail]{rows}{more}[/]")


def _dimension(word: str) -> tuple[str, api.UsageDimension.ValueType]:
    number = shapes.number(api.UsageDimension.DESCRIPTOR, word)
    if number is None:
        known = ", ".join(shapes.words(api.UsageDimension.DESCRIPTOR))
        raise InvalidArgument("--by", found=word, expected=f"some of {known}, separated by commas")
    return word.lower(), api.UsageDimension.ValueType(number)


def _statement(query: str | None, file: Path | None) -> str:
    if file is not None:
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidArgument("--file", found=str(file), expected=f"a file with a statement ({error})") from error
    if query is not None and query != "-":
        return query
    if query is None and sys.stdin.isatty():
        raise InvalidArgument("QUERY", found="", expected='a SELECT, e.g. podium sql "SELECT * FROM sessions"')
    return sys.stdin.buffer.read(SQL_BYTES_MAX).decode("utf-8", errors="replace")


def _value(text: str) -> object:
    """Return a parameter: JSON where it is JSON, else text, so that ids and words need no quotes."""
    try:
        value: object = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return value


def _form(*, as_json: bool, as_csv: bool, as_arrow: bool) -> queries.Form:
    chosen: list[queries.Form] = []
    if as_json:
        chosen.append("json")
    if as_csv:
        chosen.append("csv")
    if as_arrow:
        chosen.append("arrow")
    if len(chosen) > 1:
        raise InvalidArgument("--" + chosen[0], found="--" + chosen[1], expected="one of --json, --csv, --arrow")
    if chosen == ["arrow"] and sys.stdout.isatty():
        raise InvalidArgument("--arrow", found="a terminal", expected="a file: podium sql --arrow … > FILE")
    return chosen[0] if chosen else "table"
