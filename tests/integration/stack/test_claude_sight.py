"""What the real Claude Code CLI gets to see through a runner: its environment, and the files a prompt points at."""

import asyncio
from pathlib import Path

import psutil
import pytest

from podium.eventlog import Role
from podium.names import session_id
from podium.scripted_model import Reply, Script, ScriptedModel, Turns
from podium.v1 import session_pb2 as s
from tests.integration.gateway.test_commands import events_of
from tests.integration.stack.test_claude_sessions import start, until
from tests.support import gateways, processes, runners

pytestmark = [pytest.mark.claude, pytest.mark.timeout(150)]


def sent(model: ScriptedModel) -> str:
    return " ".join(request.body_bytes.decode() for request in model.requests)


async def test_the_client_sees_its_workspace_by_path_and_nothing_of_the_runner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {"PODIUM_TOKEN": "secret-of-podium", "AWS_SECRET_ACCESS_KEY": "secret-of-aws", "NODE_OPTIONS": ""}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    work = tmp_path / "runner" / "work" / "amarillo"
    work.mkdir(parents=True)
    (work / "note.txt").write_text("the word is ultramarine")
    (tmp_path / "outside.txt").write_text("the word is vermilion")
    script = Script(Turns([Reply(text="seen")], [Reply(text="again")]))
    prompt = "read @note.txt"
    async with (
        gateways.log_server(tmp_path) as settings,
        gateways.gateway(settings, tmp_path / "gateway") as gateway,
        ScriptedModel(script) as model,
        runners.runner(settings, tmp_path / "runner", model.url, allow_bypass=False),
        gateways.connected(settings, Role.RUNNER) as log,
    ):
        created = await start(gateway, prompt, directory=str(work))
        name = created.session.name
        ended = (await until(gateway, name, "turn_ended")).turn_ended
        assert ended.status == s.TURN_STATUS_COMPLETED, ended
        assert "ultramarine" in sent(model)
        clients = await asyncio.to_thread(processes.marked_processes, session_id(name))
        assert clients
        for client in clients:
            seen = psutil.Process(client.pid).environ()
            assert not set(seen) & set(secrets)
            assert {key for key in seen if key.startswith("PODIUM_")} <= {"PODIUM_SESSION_MARK"}
        facts = b"".join(event.SerializeToString() for event in await events_of(log, name))
        assert b"secret-of" not in facts
        # The client would attach them unasked, whatever the permission mode.
        for outside in ("../../../outside.txt", f"{tmp_path}/outside.txt", "/etc/passwd"):
            refused = await start(gateway, f"read @{outside}", directory=str(work))
            ended = (await until(gateway, refused.session.name, "turn_ended")).turn_ended
            assert (ended.status, ended.problem.code) == (s.TURN_STATUS_FAILED, "PATH_OUTSIDE_WORKSPACE")
        assert "vermilion" not in sent(model)
        # Bypass only where the runner allows it: a typed end, and the session goes on.
        forbidden = await start(gateway, "hello", directory=str(work), permission_mode=s.PERMISSION_MODE_BYPASS)
        ended = (await until(gateway, forbidden.session.name, "turn_ended")).turn_ended
        assert ended.status == s.TURN_STATUS_FAILED
        assert ended.problem.code == "PROVIDER_NOT_ALLOWED"
