"""JSON Pointers are read and written as RFC 6901 says."""

import pytest

from channelmap.pointers import Pointer, resolve, steps_of, text_of

#: The document of section 5 of the RFC.
DOCUMENT = {"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "k\\l": 6, " ": 7, "m~n": 8, "~1": 9}


@pytest.mark.parametrize(
    ("text", "pointer", "value"),
    [
        ("", (), DOCUMENT),
        ("/foo", ("foo",), ["bar", "baz"]),
        ("/foo/0", ("foo", 0), "bar"),
        ("/", ("",), 0),
        ("/a~1b", ("a/b",), 1),
        ("/c%d", ("c%d",), 2),
        ("/k\\l", ("k\\l",), 6),
        ("/m~0n", ("m~n",), 8),
        ("/~01", ("~1",), 9),
    ],
)
def test_a_pointer_leads_to_its_value_and_is_written_as_it_was_read(text: str, pointer: Pointer, value: object) -> None:
    assert resolve(DOCUMENT, steps_of(text)) == value
    assert steps_of(text) == [str(step) for step in pointer]
    assert text_of(pointer) == text


@pytest.mark.parametrize("text", ["/gone", "/foo/2", "/foo/-1", "/foo/+1", "/foo/-", "/foo/bar", "/a/b", "/foo/0/x"])
def test_a_pointer_that_leads_nowhere_is_an_error(text: str) -> None:
    with pytest.raises((LookupError, TypeError)):
        resolve(DOCUMENT, steps_of(text))
