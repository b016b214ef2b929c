"""Whether the client is there and logged in, and what models it has: asked of the real one, without a paid call."""

import subprocess
import sys
from pathlib import Path

import pytest

from podium.scripted_model import Script, ScriptedModel, claude_environment
from podium.v1 import provider_pb2
from runner.providers import problems
from runner.providers.claude import probe
from runner.providers.claude.provider import ClaudeProvider
from runner.providers.port import ProviderFailed, ProviderSettings
from runner.providers.registry import REGISTRY
from tests.integration.runner.claude.claude_rig import RecordingOutbox, Rig

pytestmark = pytest.mark.claude

NOWHERE = "http://127.0.0.1:9"


def provider(rig: Rig, url: str = NOWHERE, **changes: str | None) -> ClaudeProvider:
    environment = {**claude_environment(rig.home, url), **changes}
    kept = {name: value for name, value in environment.items() if value is not None}
    return ClaudeProvider(ProviderSettings(environment=kept))


async def test_a_client_with_a_key_is_installed_and_logged_in(rig: Rig) -> None:
    found = await provider(rig).probe()
    assert (found.name, found.installed, found.version, found.hint) == ("claude", True, "2.1.330", "")
    assert found.authentication == provider_pb2.AUTHENTICATION_PRESENT
    assert found.capabilities.deferred_approvals


async def test_a_client_without_a_key_says_what_to_do(rig: Rig) -> None:
    found = await provider(rig, ANTHROPIC_API_KEY=None).probe()
    assert (found.installed, found.authentication) == (True, provider_pb2.AUTHENTICATION_ABSENT)
    assert found.hint == probe.LOGIN_HINT


async def test_a_missing_client_says_what_to_do_and_opens_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "sdk_is_there", lambda: False)
    without = provider(rig)
    found = await without.probe()
    assert (found.installed, found.hint) == (False, probe.INSTALL_HINT)
    assert await without.models() == []
    with pytest.raises(ProviderFailed) as failed:
        await without.open(rig.spec(None), RecordingOutbox())
    assert failed.value.problem.code == problems.NOT_INSTALLED


async def test_a_client_that_does_not_run_is_not_installed(rig: Rig) -> None:
    broken = rig.folder / "broken"
    broken.write_text("#!/nowhere/interpreter\n")
    broken.chmod(0o755)
    settings = ProviderSettings(environment=claude_environment(rig.home, NOWHERE), executable=broken)
    found = await ClaudeProvider(settings).probe()
    assert not found.installed
    assert str(broken) in found.hint
    assert await ClaudeProvider(settings).models() == []


async def test_models_are_listed_without_a_call_to_the_model_and_without_a_session(rig: Rig) -> None:
    async with ScriptedModel(Script([])) as model:
        models = await provider(rig, model.url).models()
        assert not model.requests
    assert [one.value for one in models] == ["default", "opus", "fable", "sonnet", "haiku"]
    assert [one.priority for one in models] == [1, 2, 3, 4, 5]
    assert models[0].is_default
    assert models[0].resolved_model == "claude-opus-5-5"
    assert [effort.value for effort in models[0].efforts] == ["low", "medium", "high", "xhigh", "max"]
    assert [effort.value for effort in models[0].efforts if effort.is_default] == ["high"]
    assert {one.vendor for one in models} == {"anthropic"}
    assert not list((rig.home / ".claude").glob("projects/*/*.jsonl"))


def test_the_sdk_is_imported_only_when_a_client_starts() -> None:
    lines = [
        "import sys",
        "from runner.providers.registry import REGISTRY",
        "from runner.providers.port import ProviderSettings",
        "REGISTRY['claude'].make(ProviderSettings())",
        "assert 'claude_agent_sdk' not in sys.modules",
    ]
    root = Path(__file__).parents[4]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, cwd=root, env={"PYTHONPATH": str(root)})
    assert set(REGISTRY) >= {"claude"}
