from indexer.projection import words
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s


def test_a_word_is_the_name_without_its_prefix() -> None:
    assert words.TURN_STATUS[s.TURN_STATUS_COMPLETED] == "completed"
    assert words.ATTACH_REASON[e.ATTACH_REASON_TAKEN_OVER] == "taken_over"


def test_what_is_not_said_is_null() -> None:
    assert words.WAITING_ON[s.WAITING_ON_UNSPECIFIED] is None


def test_a_value_of_a_newer_contract_stays_visible() -> None:
    assert words.SESSION_STATUS[99] == "unknown_99"


def test_the_words_of_the_seed_are_the_statuses_of_a_session() -> None:
    assert set(words.SESSION_STATUS.values()) == {None, "idle", "running", "error"}


def test_words_lead_back_to_numbers() -> None:
    assert words.numbers(words.APPROVAL_KIND)["plan"] == s.APPROVAL_KIND_PLAN
