"""Sessions from the command line: the real Claude Code CLI behind real services, and a scripted model."""

import json
import re
import signal
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from podium.scripted_model import claude_environment
from tests.support.commands import Home, Running, Up, scripted_model, until, up

pytestmark = [pytest.mark.claude, pytest.mark.timeout(300), pytest.mark.xdist_group("cli-sessions")]

TOOL = "[[scenario:demo]] Write the file."
STALL = "[[scenario:stall]] Talk."


@pytest.fixture(scope="module")
def podium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    home = Home(tmp_path_factory.mktemp("s"))
    with scripted_model(home.folder) as url, up(home, "--verbose", **claude_environment(home.folder, url)) as running:
        yield running


@pytest.fixture
def home(podium: Up) -> Home:
    return podium.home


def newest(home: Home) -> str:
    return str(home.json("ls", "--limit", "1")[0]["id"])


def approval_in(said: str) -> str:
    found = re.search(r"podium approve ([0-9a-f]{8})", said)
    assert found is not None, said
    return found[1]


def ids(home: Home) -> set[str]:
    return {session["id"] for session in home.json("ls")}


def started(home: Home, *arguments: str) -> str:
    """Start a session and leave it alone; return its id."""
    return str(home.json("run", "--detach", *arguments)["session_id"])


def idle(home: Home, session: str) -> None:
    until(lambda: home.json("show", session)["session"]["status"] != "running", "the session is idle")


def test_a_turn_shows_what_was_said_and_done(home: Home) -> None:
    said = home.ok("run", "--approve", "all", TOOL)
    parts = [
        TOOL,
        "● Bash",
        "? Bash asks to run",
        "→ allowed by ana",
        "⎿",
        "✔ completed",
    ]
    places = [said.index(part) for part in parts]
    assert places == sorted(places)
    assert said.count("I will write hello-podium.txt and read it back.") == 1
    assert (home.work / "hello-podium.txt").read_text() == "written by the real Bash tool\n"


def test_a_program_reads_json_lines_that_end_with_the_result(home: Home) -> None:
    lines = home.lines("run", "--json", "--label", "team=infra", "--title", "For programs", "Hello")
    assert [line["type"] for line in lines] == ["user", "assistant", "result"]
    assert lines[0]["message"]["content"] == [{"type": "text", "text": "Hello"}]
    result = lines[-1]
    assert (result["status"], result["usage"]["input_tokens"] > 0) == ("completed", True)
    (session,) = home.json("ls", "--label", "team=infra")
    assert (session["id"], session["title"]) == (result["session_id"], "For programs")


def test_the_next_turn_of_the_last_session_remembers(home: Home) -> None:
    home.ok("run", "--approve", "all", TOOL)
    assert "Your first prompt was '[[scenario:demo]] Write the file.'" in home.ok(
        "send", "last", "[[scenario:demo]] And?"
    )


def test_always_no_refuses_and_the_turn_goes_on(home: Home) -> None:
    said = home.ok("run", "--approve", "none", TOOL)
    assert "→ denied by ana" in said
    assert "The tool was refused or failed" in said
    assert "✔ completed" in said


def test_a_failed_turn_has_exit_code_1(home: Home) -> None:
    failed = home.run("run", "--json", "[[scenario:overloaded]] Try.")
    assert failed.returncode == 1
    result = json.loads(failed.stdout.splitlines()[-1])
    assert result["status"] == "failed"
    assert result["problem_code"]


def test_ctrl_c_interrupts_the_turn(home: Home) -> None:
    with home.start("run", STALL) as command:
        command.until("one two three")
        command.send(signal.SIGINT)
        assert command.ends() == 130
        assert "■ interrupted" in command.said


def test_a_second_ctrl_c_leaves_the_turn_to_itself(podium: Up, home: Home) -> None:
    with home.start("run", STALL) as command:
        command.until("one two three")
        runner = podium.processes["runner"]
        runner.suspend()  # nobody carries out the interrupt
        try:
            command.send(signal.SIGINT)
            command.until("■ asked to stop")
            command.send(signal.SIGINT)
            assert command.ends() == 4
        finally:
            runner.resume()
        assert "left; the turn goes on" in command.said
    idle(home, newest(home))


def test_a_turn_that_waits_can_be_watched_and_dropped(home: Home) -> None:
    with home.start("run", STALL) as first:
        first.until("one two three")
        with home.start("send", "last", "Hello") as second:
            second.until("turns before this one: 1")
            assert "waiting turns dropped: 1" in home.ok("stop", "last")
            assert (second.ends(), first.ends()) == (3, 130)
            assert "■ cancelled" in second.said


def test_only_the_turn_can_be_stopped(home: Home) -> None:
    with home.start("run", STALL) as command:
        command.until("one two three")
        assert home.json("stop", "last", "--turn", "--reason", "enough")["effect"] == "interrupting"
        assert command.ends() == 130
        assert "asked to stop: enough" in command.said
    assert home.json("stop", "last", "--turn")["effect"] == "nothing"


def test_a_detached_turn_can_be_watched_to_its_end(home: Home) -> None:
    session = started(home, "--approve", "all", "Hello there")
    assert "You said: Hello there" in home.ok("watch", session[:8], "--from", "0", "--until-idle")


def test_without_a_terminal_it_says_how_to_answer(home: Home) -> None:
    with home.start("run", TOOL) as command:
        approval = approval_in(command.until("answer with: podium approve"))
        (waiting,) = home.json("approvals")
        assert waiting["id"].startswith(approval)
        assert waiting["request"]["tool_name"] == "Bash"
        assert home.json("show", waiting["session_id"])["session"]["waiting_on"] == "approval"
        assert home.ok("approve", approval) == "allowed\n"
        assert command.ends() == 0
    assert home.json("approvals") == []
    late = home.run("deny", approval)
    assert (late.returncode, "settled before: allowed" in late.stderr) == (5, True)


def test_an_answer_can_change_the_arguments(home: Home) -> None:
    with home.start("run", TOOL) as command:
        approval = approval_in(command.until("answer with: podium approve"))
        home.ok("approve", approval, "--input", '{"command": "echo something else"}')
        command.until("⎿ something else")
        assert command.ends() == 0


def test_a_refusal_tells_the_agent_why(home: Home) -> None:
    with home.start("run", TOOL) as command:
        home.ok("deny", approval_in(command.until("answer with: podium approve")), "--message", "not on main")
        assert command.ends() == 0
        assert "denied by ana: not on main" in command.said


def test_a_person_answers_at_the_terminal(home: Home) -> None:
    with home.terminal("run", TOOL) as screen:
        screen.until("yes, no, edit")
        screen.types("what?\r")
        screen.until("y = let it run")
        screen.types("y\r")
        screen.until("✔ completed")
        assert screen.ends() == 0


def test_a_question_answered_elsewhere_is_taken_back(home: Home) -> None:
    with home.terminal("run", TOOL) as screen:
        screen.until("yes, no, edit")
        (waiting,) = home.json("approvals")
        home.ok("approve", waiting["id"])
        screen.until("→ allowed by ana", "✔ completed")
        assert screen.ends() == 0


def test_ctrl_c_at_a_question_interrupts_the_turn(home: Home) -> None:
    with home.terminal("run", TOOL) as screen:
        screen.until("yes, no, edit")
        screen.types("\x03")
        screen.until("■ interrupted")
        assert screen.ends() == 130


def test_a_person_edits_the_arguments(home: Home) -> None:
    with home.terminal("run", TOOL, EDITOR="sed -i s/real/edited/") as screen:
        screen.until("yes, no, edit")
        screen.types("e\r")
        screen.until("written by the edited Bash tool", "✔ completed")
        assert screen.ends() == 0


def test_a_session_is_talked_to_until_ctrl_d(home: Home) -> None:
    started(home, "First")
    home.ok("watch", "last", "--from", "0", "--until-idle")
    with home.terminal("resume", "last") as screen:
        screen.until("You said: First")
        screen.types("Second\r")
        screen.until("You said: Second")
        screen.types("Third\r")
        screen.until("You said: Third")
        screen.types("\x04")
        assert screen.ends() == 0


def test_a_turn_is_followed_over_the_gateways_death(podium: Up, home: Home) -> None:
    with home.start("run", TOOL) as command:
        approval = approval_in(command.until("answer with: podium approve"))
        podium.kill("gateway")
        until(lambda: home.run("approve", approval).returncode == 0, "the new gateway takes the answer")
        assert command.ends() == 0
        assert command.said.count("? Bash asks to run") == 1


def test_a_session_is_shown_as_it_was(home: Home) -> None:
    home.ok("run", "--title", "Shown", "Hello")
    session = newest(home)
    events = home.lines("show", session, "--raw")
    assert [event["revision"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["kind"] == "session_created"
    kinds = [event["kind"] for event in events]
    said = kinds.index("message") + 1
    assert "You said: Hello" not in home.ok("show", session, "--at", str(said))
    assert "You said: Hello" in home.ok("show", session)
    shown = home.json("show", session)
    assert [message["type"] for message in shown["messages"]] == ["user", "assistant", "result"]
    assert shown["session"]["id"] == session


def test_sessions_are_renamed_and_put_away(home: Home) -> None:
    home.ok("run", "--title", "Old", "Hello")
    session = newest(home)
    assert home.ok("rename", session[:8], "New title") == f"{session[:8]} renamed to 'New title'\n"
    assert home.json("show", session)["session"]["title"] == "New title"
    home.ok("archive", session)
    assert session not in ids(home)
    assert session in {one["id"] for one in home.json("ls", "--archived")}
    home.ok("archive", session, "--undo")
    assert session in ids(home)


def test_usage_is_summed_up_by_what_is_asked_for(home: Home) -> None:
    home.ok("run", "Hello")
    session = newest(home)
    (row,) = home.json("usage", "--session", session, "--by", "session,principal")
    assert (row["session"], row["principal"], row["calls"]) == (session, "ana", 1)
    assert row["input_tokens"] > 0
    table = home.ok("usage", "--by", "model")
    assert re.search(r"model +input +cached +output +calls +cost", table)
    assert home.json("usage", "--until", "2020-01-01") == []


def test_sql_answers_in_every_form(home: Home) -> None:
    home.ok("run", "--title", "For SQL", "Hello")
    session = newest(home)
    query = "SELECT title, turn_count, labels, created_at FROM sessions WHERE id = $1"
    (row,) = home.lines("sql", query, "--param", session, "--json")
    assert (row["title"], row["turn_count"], row["labels"]) == ("For SQL", 1, {})
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", row["created_at"])
    assert home.ok("sql", "SELECT 1 AS one, 'a,b' AS two", "--csv") == '"one","two"\n1,"a,b"\n'
    assert "For SQL" in home.ok("sql", query, "--param", session)
    many = home.run("sql", "SELECT role FROM session_messages", "--max-rows", "1")
    assert "1 row; there are more" in many.stderr


def test_sql_can_be_piped_in_and_arrow_out(home: Home) -> None:
    answer = home.bytes("sql", "-", "--arrow", prompt=b"SELECT 42 AS answer")
    with pa.ipc.open_stream(answer) as reader:
        assert reader.read_all().to_pylist() == [{"answer": 42}]


def test_the_log_is_read_from_a_position_on(home: Home) -> None:
    home.ok("run", "Hello")
    session = newest(home)
    events = home.lines("log", "tail", "--from", "0", "--no-follow")
    assert session in {event["session_id"] for event in events}
    position = events[-1]["position"]
    home.ok("run", "Again")
    later = home.lines("log", "tail", "--from", str(position), "--no-follow", "--kind", "turn_ended")
    assert [event["kind"] for event in later] == ["turn_ended"]
    (created,) = home.lines("log", "tail", "--session", session, "--from", "0", "--no-follow", "-k", "session_created")
    assert created["session_id"] == session


def test_the_log_is_followed(home: Home) -> None:
    with home.start("log", "tail", "--kind", "turn_ended") as tail:
        until(lambda: _ended_in(tail, home), "the log shows a turn's end")


def _ended_in(tail: Running, home: Home) -> bool:
    home.ok("run", "Hello")
    return any(json.loads(line)["kind"] == "turn_ended" for line in tail.said.splitlines())


def test_a_model_alone_finds_its_provider(home: Home) -> None:
    until(lambda: bool(home.json("models")), "the runner has told of its models")
    values = {model["value"] for model in home.json("models", "--provider", "claude")}
    assert "opus" in values
    home.ok("run", "--model", "opus", "--effort", "low", "Hello")
    session = home.json("show", "last")["session"]
    assert (session["provider"], session["model"], session["effort"]) == ("claude", "opus", "low")
    refused = home.run("run", "--model", "opsu", "Hello")
    assert (refused.returncode, "near it: opus" in refused.stderr) == (2, True)


def test_a_permission_mode_is_taken(home: Home) -> None:
    home.ok("run", "--permission-mode", "deny", TOOL)
    assert home.json("approvals") == []
    assert home.json("show", "last")["session"]["permission_mode"] == "deny"


def test_a_schema_is_followed(home: Home) -> None:
    (home.work / "schema.json").write_text('{"type": "object"}')
    refused = home.run("run", "--schema", "nowhere.json", "Hello")
    assert (refused.returncode, "--schema" in refused.stderr) == (2, True)


def test_a_prompt_is_read_from_standard_input(home: Home) -> None:
    said = home.run("run", "-", prompt="From a pipe").stdout
    assert "You said: From a pipe" in said


def test_mistakes_are_told_without_a_traceback(home: Home) -> None:
    cases: list[tuple[list[str], int, str]] = [
        (["show", "ffff"], 5, "SESSION_NOT_FOUND"),
        (["show", "x"], 2, "INVALID_FIELD"),
        (["sql", "DROP TABLE sessions"], 2, "SQL_REFUSED"),
        (["run", "--workspace", "no-such-name", "Hello"], 5, "NO_ELIGIBLE_RUNNER"),
        (["ls", "--bogus"], 2, "No such option"),
    ]
    for arguments, code, reason in cases:
        refused = home.run(*arguments)
        assert (refused.returncode, reason in refused.stderr) == (code, True), (arguments, refused)
        assert "Traceback" not in refused.stderr


def test_an_error_is_json_for_programs(home: Home) -> None:
    refused = home.run("show", "ffff", "--json")
    error: dict[str, Any] = json.loads(refused.stderr)["error"]
    assert (refused.stdout, error["reason"], error["code"]) == ("", "SESSION_NOT_FOUND", "NOT_FOUND")


def test_the_doctor_finds_nothing_wrong(podium: Up, home: Home) -> None:
    findings = {finding["subject"]: finding for finding in home.json("doctor")}
    assert {finding["level"] for finding in findings.values()} <= {"ok", "hint"}
    assert findings["agents"]["found"] == "claude"
    assert findings["claude"]["level"] == "hint", "this shell has no key; the runner has"


def test_sessions_outlive_a_restart(podium: Up, home: Home) -> None:
    home.ok("run", "--title", "Before", "Hello")
    session = newest(home)
    podium.command.send(signal.SIGTERM)
    assert podium.command.ends() == 0
    with up(home):
        assert home.json("show", session)["session"]["title"] == "Before"
        assert session in ids(home)
