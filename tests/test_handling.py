"""What a handler may raise says what is wrong with its arguments when it is made."""

import copy
import pickle
from datetime import timedelta
from typing import Any

import pytest

from channelmap import Reject, Retry

YEAR = 365 * 86_400


@pytest.mark.parametrize("after", [None, 0, 0.5, 30, YEAR, float(YEAR)])
def test_a_retry_has_its_seconds_and_its_reason(after: float | None) -> None:
    retry = Retry(after=after, reason="the server is busy")
    assert (retry.after, retry.reason, str(retry)) == (after, "the server is busy", "the server is busy")
    assert (Retry(after).after, Retry(after).reason, str(Retry(after))) == (after, "", "")


RANGE = r"^Retry\(after=…\): expected 0 to 31,536,000 seconds \(a year\), got "
HINT = "; without 'after', the back-off of the channel decides$"


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (-0.1, f"{RANGE}a negative number{HINT}"),
        (float("-inf"), f"{RANGE}a negative number{HINT}"),
        (YEAR + 1, f"{RANGE}a larger number{HINT}"),
        (float("inf"), f"{RANGE}a larger number{HINT}"),
        pytest.param(10**5_000, f"{RANGE}a larger number{HINT}", id="5,000 digits"),
        (float("nan"), f"{RANGE}NaN{HINT}"),
    ],
)
def test_a_time_that_cannot_be_waited_for_is_refused(after: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Retry(after=after)


@pytest.mark.parametrize(
    ("after", "ending"),
    [
        (True, "'bool'"),
        ([], "'list'"),
        ("the server is busy", r"'str'; the reason is the second argument: Retry\(reason='…'\)"),
        (timedelta(minutes=5), r"'timedelta'; write after=delay.total_seconds\(\)"),
    ],
)
def test_what_is_not_a_number_of_seconds_is_refused(after: Any, ending: str) -> None:
    message = rf"^Retry\(after=…\): expected seconds as an int or a float, got a value of type {ending}$"
    with pytest.raises(TypeError, match=message):
        Retry(after)


def test_a_reason_is_text() -> None:
    with pytest.raises(TypeError, match=r"^Retry\(reason\): expected text, got a value of type 'int'$"):
        Retry(reason=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^Reject\(reason\): expected text, got a value of type 'ValueError'$"):
        Reject(ValueError("gone"))  # type: ignore[arg-type]


@pytest.mark.parametrize("reason", ["", " \n"])
def test_a_rejection_needs_a_reason(reason: str) -> None:
    with pytest.raises(ValueError, match=r"^Reject\(reason\): expected a reason, got empty text; "):
        Reject(reason)
    assert str(Reject("gone")) == Reject("gone").reason == "gone"


@pytest.mark.parametrize("outcome", [Retry(30, "busy"), Retry(), Reject("gone")])
def test_outcomes_can_be_copied_and_pickled(outcome: Retry | Reject) -> None:
    for other in (copy.copy(outcome), pickle.loads(pickle.dumps(outcome))):
        assert type(other) is type(outcome)
        assert (vars(other), other.args) == (vars(outcome), outcome.args)
