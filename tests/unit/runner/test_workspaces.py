"""Names for folders: only under the roots, whatever links and dots say."""

from pathlib import Path

import pytest

from runner.providers.port import ProviderFailed
from runner.workspaces import DEFAULT, Workspaces


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "inside").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    return tmp_path / "root"


@pytest.fixture
def workspaces(root: Path) -> Workspaces:
    return Workspaces(root.parent / "state", [root])


def refused(workspaces: Workspaces, name: str, directory: object = "") -> str:
    with pytest.raises(ProviderFailed) as failed:
        workspaces.folder(name, str(directory))
    return failed.value.problem.code


def test_a_folder_under_a_root_is_registered_and_found_again(workspaces: Workspaces, root: Path) -> None:
    assert workspaces.folder("amarillo", str(root / "inside")) == root / "inside"
    assert workspaces.folder("amarillo") == root / "inside"
    assert workspaces.names() == ["amarillo", "default"]
    again = Workspaces(root.parent / "state", [root])
    assert again.folder("amarillo") == root / "inside"


def test_the_root_itself_is_a_workspace(workspaces: Workspaces, root: Path) -> None:
    assert workspaces.folder("root", str(root)) == root


def test_several_sessions_may_name_the_same_folder(workspaces: Workspaces, root: Path) -> None:
    for _ in range(3):
        assert workspaces.folder("amarillo", str(root / "inside")) == root / "inside"


def test_dots_that_lead_out_of_the_roots_are_refused(workspaces: Workspaces, root: Path) -> None:
    assert refused(workspaces, "out", root / ".." / "outside") == "WORKSPACE_OUTSIDE_ROOTS"
    assert refused(workspaces, "out", root / "inside/../../outside") == "WORKSPACE_OUTSIDE_ROOTS"
    assert workspaces.folder("in", str(root / "inside/../inside")) == root / "inside"


def test_a_folder_whose_name_only_begins_like_a_root_is_refused(workspaces: Workspaces, root: Path) -> None:
    beside = root.with_name("root-beside")
    beside.mkdir()
    assert refused(workspaces, "beside", beside) == "WORKSPACE_OUTSIDE_ROOTS"


def test_a_link_that_leads_out_of_the_roots_is_refused(workspaces: Workspaces, root: Path) -> None:
    (root / "link").symlink_to(root.parent / "outside")
    assert refused(workspaces, "link", root / "link") == "WORKSPACE_OUTSIDE_ROOTS"
    (root / "fine").symlink_to(root / "inside")
    assert workspaces.folder("fine", str(root / "fine")) == root / "inside"


def test_a_folder_that_becomes_a_link_after_it_was_registered_is_refused(workspaces: Workspaces, root: Path) -> None:
    workspaces.folder("amarillo", str(root / "inside"))
    (root / "inside").rmdir()
    (root / "inside").symlink_to(root.parent / "outside")
    assert refused(workspaces, "amarillo") == "WORKSPACE_OUTSIDE_ROOTS"
    assert refused(workspaces, "amarillo", root / "inside") == "WORKSPACE_OUTSIDE_ROOTS"


def test_a_folder_that_is_gone_is_missing(workspaces: Workspaces, root: Path) -> None:
    workspaces.folder("amarillo", str(root / "inside"))
    (root / "inside").rmdir()
    assert refused(workspaces, "amarillo") == "WORKSPACE_MISSING"


@pytest.mark.parametrize("wrong", ["nowhere", "file", "loop", "nul\0"])
def test_what_is_no_folder_is_missing(workspaces: Workspaces, root: Path, wrong: str) -> None:
    (root / "file").write_text("")
    (root / "loop").symlink_to(root / "loop")
    assert refused(workspaces, "wrong", root / wrong) == "WORKSPACE_MISSING"


def test_an_unknown_name_is_unknown(workspaces: Workspaces) -> None:
    assert refused(workspaces, "amarilo") == "WORKSPACE_UNKNOWN"


def test_a_name_stands_for_one_folder(workspaces: Workspaces, root: Path) -> None:
    workspaces.folder("amarillo", str(root / "inside"))
    assert refused(workspaces, "amarillo", root) == "WORKSPACE_NAME_TAKEN"
    assert workspaces.folder("amarillo") == root / "inside"


def test_the_default_workspace_is_the_runners_own_and_cannot_be_given_away(workspaces: Workspaces, root: Path) -> None:
    folder = workspaces.folder(DEFAULT)
    assert folder == (root.parent / "state" / "workspaces" / "default").resolve()
    assert folder.is_dir()
    assert refused(workspaces, DEFAULT, root / "inside") == "WORKSPACE_NAME_TAKEN"
    assert workspaces.folder(DEFAULT) == folder


def test_a_file_that_cannot_be_read_is_said(workspaces: Workspaces, root: Path) -> None:
    (root.parent / "state").mkdir()
    for broken in ("[", "[1]", "null"):
        (root.parent / "state" / "workspaces.json").write_text(broken)
        assert refused(workspaces, "amarillo") == "WORKSPACE_UNKNOWN"
