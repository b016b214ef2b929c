"""What a client's process may see."""

from runner.environment import allowed
from runner.providers.registry import REGISTRY

HOME = {"PATH": "/bin", "HOME": "/home/me", "LC_ALL": "C", "HTTPS_PROXY": "http://proxy"}
OTHERS = {
    "AWS_SECRET_ACCESS_KEY": "s",
    "GITHUB_TOKEN": "s",
    "LD_PRELOAD": "/x.so",
    "PYTHONPATH": "/x",
    "NODE_OPTIONS": "-r x",
}
OWN = {"PODIUM_NATS_CREDENTIALS_FILE": "/secret", "PODIUM_TOKEN": "s"}


def test_a_client_sees_the_system_and_what_it_was_given_by_name_or_prefix() -> None:
    everything = {**HOME, **OTHERS, **OWN, "ANTHROPIC_API_KEY": "k", "MINE": "1"}
    assert allowed(everything) == HOME
    assert allowed(everything, ["MINE"], ["ANTHROPIC_"]) == {**HOME, "ANTHROPIC_API_KEY": "k", "MINE": "1"}


def test_podiums_own_variables_cannot_be_asked_for() -> None:
    assert allowed(OWN, list(OWN), ["PODIUM_", "P"]) == {}


def test_the_registered_prefixes_let_nothing_else_through() -> None:
    for registration in REGISTRY.values():
        seen = allowed({**OTHERS, **OWN}, registration.environment_names, registration.environment_prefixes)
        assert seen == {}
