"""Files that a prompt points at: inside the workspace, whatever links and dots say."""

from pathlib import Path

import pytest

from runner import mentions
from runner.mentions import require_inside
from runner.providers.port import ProviderFailed


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "note.txt").write_text("inside")
    (tmp_path / "secret.txt").write_text("outside")
    (tmp_path / "two words").write_text("outside")
    (tmp_path / "work" / "link").symlink_to(tmp_path / "secret.txt")
    return (tmp_path / "work").resolve()


@pytest.mark.parametrize(
    "prompt",
    [
        "@note.txt",
        "see @./note.txt, please",
        "@nowhere",
        "me@example.org",
        "@property def x",
        "@",
        "a @ b",
        "@/nowhere",
    ],
)
def test_what_lies_inside_or_nowhere_is_let_through(workspace: Path, prompt: str) -> None:
    require_inside(prompt, workspace)


@pytest.mark.parametrize(
    "prompt",
    [
        "@../secret.txt",
        "read (@../secret.txt).",
        "@../secret.txt#L1-2",
        '@"../two words"',
        "@link",
        "@/etc/passwd",
        "@/etc",
        "@~root",
        "one\n@/etc/passwd",
        "@..",
    ],
)
def test_what_lies_outside_is_refused(workspace: Path, prompt: str) -> None:
    with pytest.raises(ProviderFailed) as failed:
        require_inside(prompt, workspace)
    assert failed.value.problem.code == "PATH_OUTSIDE_WORKSPACE"


def test_a_prompt_of_too_many_paths_is_refused(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mentions, "MENTIONS_MAX", 3)
    with pytest.raises(ProviderFailed):
        require_inside("@a @b @c @d", workspace)
    require_inside("@a @a @a @a", workspace)
