"""How events become lines, and that no value of a caller affects a terminal."""

from __future__ import annotations

import json
from typing import Any

import pytest

from healthomics_gateway.telemetry.log_lines import (
    MAX_LINE,
    Renderer,
    json_line,
    text_lines,
)

HARMFUL = [
    *(chr(code) for code in [*range(0x20), *range(0x7F, 0xA0)]),  # C0, DEL, C1
    *"\u061c\u200b\u200e\u200f\u2028\u2029",  # invisible, lines, directions
    *(chr(code) for code in [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]),
    *"\ufeff\U000e0001\ud800\udfff",
]
TITLE = "\x1b]0;title\x07\x1b[2J"
JSON = Renderer(json_line)
TEXT = Renderer(text_lines(colors=False))
COLORED = Renderer(text_lines(colors=True))


class Unshown:
    """A value whose `repr` fails."""

    def __repr__(self) -> str:
        """Raise an exception."""
        raise ValueError


class Raw:
    """A value whose `repr` isn't escaped."""

    def __repr__(self) -> str:
        """Return control characters for a terminal."""
        return TITLE


def rendered(renderer: Renderer, **event: Any) -> str:
    """Render an event."""
    return renderer(None, "info", event)


@pytest.mark.guarantee("log-escapes")
@pytest.mark.parametrize("renderer", [JSON, TEXT], ids=["json", "text"])
def test_harmful_character_is_escaped_wherever_it_is(renderer: Renderer) -> None:
    """Keys, values, names and nested values contain only printable characters."""
    for each in HARMFUL:
        line = rendered(
            renderer,
            event=f"a{each}b",
            value=f"c{each}d",
            spaced=f"c {each} d",
            nested={f"e{each}f": [f"g{each}h"]},
            raw=Raw(),
            **{f"i{each}j": 1},
        )

        assert line.isprintable(), (hex(ord(each)), line)


@pytest.mark.guarantee("log-escapes")
@pytest.mark.parametrize("each", ["".join(HARMFUL[:-2]), *HARMFUL[-2:]])
def test_json_decodes_to_what_was_logged(each: str) -> None:
    """The escapes are those of JSON: nothing is lost, and printable text is kept."""
    event = {"event": f"{each}é", each: {"nested": [each]}}

    assert event == json.loads(rendered(JSON, **event))
    assert "Zoë 東京" in rendered(JSON, event="Zoë 東京")
    assert "Zoë 東京" in rendered(TEXT, event="Zoë 東京")


def test_text_on_a_terminal_has_only_its_own_colours() -> None:
    """Escaped text is the same in colours; the only escape sequences are colours."""
    event = {"event": TITLE, "level": "info", "method": f"/x{TITLE}"}
    line = rendered(COLORED, **event)
    escapes = [part.partition("m")[0] for part in line.split("\x1b")[1:]]

    assert r"/x\x1b]0;title\x07\x1b[2J" in line
    assert all(each.strip("[0123456789;") == "" for each in escapes), escapes


def test_text_forges_no_event() -> None:
    """Each line of an event after the first is indented and escaped."""
    error = ValueError(f"it failed\n2026-01-01 [info] call{TITLE}")
    line = rendered(TEXT, event="bug\nforged", exc_info=error)
    first, *others = line.split("\n")

    assert r"bug\nforged" == first
    assert {"  "} == {each[:2] for each in others}
    assert line.replace("\n", "").isprintable()


@pytest.mark.guarantee("log-escapes")
@pytest.mark.parametrize("renderer", [JSON, TEXT], ids=["json", "text"])
@pytest.mark.parametrize(
    "value",
    [Unshown(), [Unshown()], {("a", 1): 1}, [float("nan"), 2**70], 10**5000],
    ids=["unshown", "in-list", "keys", "nan", "digits"],
)
def test_value_that_cannot_be_rendered_loses_no_other(
    renderer: Renderer, value: Any
) -> None:
    """The other fields of an event are logged, whatever a value is."""
    line = rendered(renderer, event="call", request_id="mine", value=value)

    assert "call" in line
    assert "mine" in line


def test_text_that_is_too_long_has_its_values_cut() -> None:
    """The values of a long line of text are cut, so that log collectors accept it."""
    line = rendered(TEXT, event="long", text="x" * 50_000, many=["y"] * 20_000)

    assert len(line) < MAX_LINE
