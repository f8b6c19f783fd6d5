"""What a reviewer decides on the review page, and the file that saves the decisions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selenium import webdriver
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from comprehend_phi import Document, redact
from comprehend_phi.review import Decisions

from .conftest import EMPTY, NAME, NOTE, OTHER, PHONE, Page, errors, found, requests

SEEN = "Seen by Dr. Iris Example, and by Otto Brandt."
PLAIN = found(SEEN, ("Iris Example", "NAME"), key="notes/p.txt")


def units(text: str) -> int:
    """Return the length of a text in UTF-16 code units."""
    return len(text.encode("utf-16-le")) // 2


class Reviewer:
    """A person at the page who has a keyboard and a folder for downloads."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.page = page
        self.press = page.press
        self._folder = folder
        page.browser.execute_cdp_cmd(
            "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)}
        )

    def select(self, begin: int, end: int) -> None:
        """Select from one UTF-16 offset of the note's visible text to another one."""
        self.page.run(
            "const [begin, end] = arguments;"
            "const walker = document.createTreeWalker("
            "  document.getElementById('note'), NodeFilter.SHOW_TEXT);"
            "const place = (offset) => {"
            "  walker.currentNode = walker.root;"
            "  while (walker.nextNode() && offset > walker.currentNode.length) {"
            "    offset -= walker.currentNode.length;"
            "  }"
            "  return [walker.currentNode, offset];"
            "};"
            "getSelection().setBaseAndExtent(...place(begin), ...place(end));",
            begin,
            end,
        )

    def select_text(self, text: str) -> None:
        before, _, _ = self.page.note.partition(text)
        self.select(units(before), units(before + text))

    def hold(self, modifier: str, *keys: str) -> None:
        actions = webdriver.ActionChains(self.page.browser)
        actions.key_down(modifier).send_keys(*keys).key_up(modifier).perform()

    def find(self, text: str) -> None:
        """Find a text in the note, which selects it."""
        self.press("f")
        self.press(text, Keys.ENTER)

    def save(self, key: str = "s") -> Path:
        """Save the decisions with a key and return the downloaded file."""
        for earlier in self._folder.glob("*.json"):
            earlier.unlink()
        self.press(key)
        saved: list[Path] = WebDriverWait(self.page.browser, 10, poll_frequency=0.01).until(
            lambda _: [file for file in self._folder.glob("*.json") if file.stat().st_size]
        )
        return saved[0]

    def saved(self) -> list[dict[str, Any]]:
        """Save the decisions and return the documents in the file."""
        content = json.loads(self.save().read_text(encoding="utf-8"))
        assert content.keys() == {"version", "documents"}
        assert content["version"] == 1
        documents: list[dict[str, Any]] = content["documents"]
        return documents

    def load(self, content: str) -> None:
        """Load a file with this content, and wait until the page says what came of it."""
        file = self._folder / "to-load.txt"
        file.write_text(content, encoding="utf-8")
        self.page.run(
            "for (const id of ['message', 'problem']) document.getElementById(id).textContent = ''"
        )
        self.page.find("#file").send_keys(str(file))
        WebDriverWait(self.page.browser, 10, poll_frequency=0.01).until(
            lambda _: self.problem or "Loaded" in self.message
        )

    @property
    def message(self) -> str:
        return self.page.text("#message")

    @property
    def problem(self) -> str:
        return self.page.text("#problem")

    @property
    def selected(self) -> str:
        return str(self.page.run("return getSelection().toString()"))

    @property
    def rejected(self) -> list[str]:
        """The texts that are shown as rejected."""
        return self.page.each(".rejected", "it.textContent")

    @property
    def enabled(self) -> list[str]:
        """Which of the buttons for undo, redo and save are enabled."""
        return self.page.each("#undo:enabled, #redo:enabled, #save:enabled", "it.id")

    @property
    def warns(self) -> bool:
        """Whether the browser would warn before it leaves the page."""
        return bool(
            self.page.run(
                "const event = new Event('beforeunload', { cancelable: true });"
                "return !dispatchEvent(event)"
            )
        )


@pytest.fixture
def reviewer(page: Page, tmp_path: Path) -> Reviewer:
    folder = tmp_path / "downloads"
    folder.mkdir()
    return Reviewer(page, folder)


def row(note: tuple[Document, str], **members: Any) -> dict[str, Any]:
    """Return what the file says about a note."""
    document, text = note
    nothing: dict[str, Any] = {"reviewed": False, "rejected": [], "added": []}
    identity = {"input_key": document.input_key, "sha256": sha256(text.encode()).hexdigest()}
    return {**identity, **nothing, **members}


def mark(begin: int, end: int, type_: str = "NAME") -> dict[str, Any]:
    return {"begin_offset": begin, "end_offset": end, "type": type_}


# --- Reject and restore ---------------------------------------------------------------------------


def test_x_rejects_a_mark_which_shows_its_text(reviewer: Reviewer) -> None:
    reviewer.page.open([NOTE])

    reviewer.press("j", "j", "x")

    assert reviewer.page.mark_texts == ["NAME", "DATE"]
    assert reviewer.rejected == [PHONE]
    assert reviewer.page.text("#current") == "2 of 3 PHONE_OR_FAX score 0.50 rejected"
    assert reviewer.message == "Rejected PHONE_OR_FAX"
    assert reviewer.saved() == [row(NOTE, rejected=[1])]


def test_several_marks_can_be_rejected(reviewer: Reviewer) -> None:
    reviewer.page.open([NOTE])

    reviewer.press("j", "x", "j", "j", "x")

    assert reviewer.saved() == [row(NOTE, rejected=[0, 2])]


def test_x_restores_a_rejected_mark_which_masks_it_again(reviewer: Reviewer) -> None:
    reviewer.page.open([NOTE])

    reviewer.press("j", "j", "x", "x")

    assert reviewer.page.mark_texts == ["NAME", "PHONE_OR_FAX", "DATE"]
    assert PHONE not in reviewer.page.everything()
    assert reviewer.message == "Restored PHONE_OR_FAX"


def test_the_focus_stays_on_the_mark_that_is_rejected_or_restored(reviewer: Reviewer) -> None:
    reviewer.page.open([NOTE])

    reviewer.press("j", "x")
    assert reviewer.page.browser.switch_to.active_element.text == NAME
    reviewer.press("x")
    assert reviewer.page.browser.switch_to.active_element == reviewer.page.marks[0]


def test_rejecting_a_mark_rejects_all_its_entities(reviewer: Reviewer) -> None:
    note = found("Dr. Iris Example MD, 7", ("Iris Example", "NAME"), ("Example MD", "ID"))
    reviewer.page.open([note])

    reviewer.press("j", "x")

    assert reviewer.rejected == ["Iris Example MD"]
    assert reviewer.saved() == [row(note, rejected=[0, 1])]


def test_buttons_reject_restore_and_mark_as_reviewed(reviewer: Reviewer) -> None:
    page = reviewer.page.open([NOTE])

    page.press("j")
    page.click("#reject")
    assert reviewer.rejected == [NAME]
    assert page.text("#reject") == "Restore x"
    page.click("#reject")
    page.click("#reviewed")

    assert page.find("#reviewed").get_attribute("aria-pressed") == "true"
    assert reviewer.saved() == [row(NOTE, reviewed=True)]


def test_a_rejected_mark_is_heard_as_rejected(reviewer: Reviewer) -> None:
    reviewer.page.open([NOTE])

    reviewer.press("j", "x")

    assert reviewer.page.find(".rejected").accessible_name == "NAME, rejected"


# --- Add ------------------------------------------------------------------------------------------


def test_m_marks_the_selected_text_which_masks_it(reviewer: Reviewer) -> None:
    reviewer.page.open([PLAIN])

    reviewer.select_text("Otto Brandt")
    reviewer.press("m", "1")

    assert reviewer.page.mark_texts == ["NAME", "NAME"]
    assert reviewer.page.marks[1].accessible_name == "NAME, added, masked"
    assert "Otto" not in reviewer.page.everything()
    assert reviewer.page.text("#current") == "2 of 2 NAME added"
    assert reviewer.saved() == [row(PLAIN, added=[mark(33, 44)])]


def test_the_mouse_selects_text_and_chooses_a_type(reviewer: Reviewer) -> None:
    page = reviewer.page.open([found("Quellwasser " * 400)])
    webdriver.ActionChains(page.browser).double_click(page.find("#note")).perform()
    assert reviewer.selected.strip() == "Quellwasser"

    page.click("#add")
    page.click(".choice:nth-child(8)")

    assert page.mark_texts == ["ADDRESS"]


def test_arrow_keys_choose_a_type_and_the_next_mark_suggests_it(reviewer: Reviewer) -> None:
    reviewer.page.open([found("Otto Brandt")])

    for text in ("Otto", "Brandt"):
        reviewer.select_text(text)
        reviewer.press("m", *([Keys.ARROW_DOWN] * 2 if text == "Otto" else []), Keys.ENTER)

    assert reviewer.page.mark_texts == ["DATE", "DATE"]


def test_escape_cancels_the_choice_and_masks_nothing(reviewer: Reviewer) -> None:
    reviewer.page.open([PLAIN])
    reviewer.press("a")

    reviewer.select_text("Otto")
    reviewer.press("m", Keys.ESCAPE)

    assert reviewer.page.mark_texts == ["Iris Example"]
    assert reviewer.selected == "Otto"
    assert reviewer.enabled == []


def test_a_digit_that_chooses_a_type_filters_nothing(reviewer: Reviewer) -> None:
    reviewer.page.open([PLAIN])

    reviewer.select_text("Otto")
    reviewer.press("m", "1")

    assert reviewer.page.filtered == [False, False]


def test_without_a_selection_nothing_is_marked(reviewer: Reviewer) -> None:
    reviewer.page.open([PLAIN])

    reviewer.press("m")

    assert reviewer.message == "Select text in the note first"
    assert not reviewer.page.find("#chooser").is_displayed()


def test_masking_everything_empties_the_search_which_may_show_a_name(reviewer: Reviewer) -> None:
    reviewer.page.open([PLAIN])

    reviewer.find("Otto Brandt")
    reviewer.press("m", "1", Keys.ESCAPE)

    assert "Otto" not in reviewer.page.everything()


FACES = "\U0001f600\U0001f469\u200d\u2695\ufe0f"
SCRIPTS = f"{FACES} Jose\u0301 \U0001d4de,\r\n\u05e9\u05dc\u05d5\u05dd \u202eMarsh\u202c\r\nend."


@pytest.mark.parametrize(
    ("begin", "end"),
    [(0, 1), (1, 5), (6, 11), (10, 11), (9, 10), (12, 13), (16, 20), (22, 27), (16, 34)],
)
def test_an_added_mark_counts_code_points(reviewer: Reviewer, begin: int, end: int) -> None:
    note = found(SCRIPTS)
    reviewer.page.open([note])

    reviewer.select(units(SCRIPTS[:begin]), units(SCRIPTS[:end]))
    reviewer.press("m", "1")

    assert reviewer.saved() == [row(note, added=[mark(begin, end)])]


@pytest.mark.parametrize(
    ("text", "begin", "end", "marked"),
    [
        pytest.param("a\U0001f600b", 2, 4, "\U0001f600b", id="begins inside a surrogate pair"),
        pytest.param("a\U0001f600b", 0, 2, "a\U0001f600", id="ends inside a surrogate pair"),
        pytest.param("ab  cd ", 1, 5, "b  c", id="white space inside"),
        pytest.param("ab  cd\r\n", 2, 8, "cd", id="white space at both ends"),
    ],
)
def test_a_selection_becomes_whole_characters_without_white_space_at_its_ends(
    reviewer: Reviewer, text: str, begin: int, end: int, marked: str
) -> None:
    reviewer.page.open([found(text)])

    reviewer.select(begin, end)
    reviewer.press("m", "1", "r")

    assert reviewer.page.mark_texts == [marked]


def test_a_selection_of_white_space_marks_nothing(reviewer: Reviewer) -> None:
    reviewer.page.open([found("ab  cd")])

    reviewer.select(2, 4)
    reviewer.press("m")

    assert reviewer.message == "Select text in the note first"


@pytest.mark.parametrize("is_revealed", [False, True])
def test_a_selection_that_touches_a_mark_contains_all_of_it(
    reviewer: Reviewer, is_revealed: bool
) -> None:
    reviewer.page.open([PLAIN])
    if is_revealed:
        reviewer.press("a")

    reviewer.select(8, 14)  # "Dr. " and two characters of the mark or its label
    reviewer.press("m", "8")

    assert reviewer.page.mark_texts == ["ADDRESS + NAME"]
    reviewer.press("r")
    assert reviewer.page.mark_texts == ["Dr. Iris Example"]
    assert reviewer.page.each(".part", "[it.textContent, it.dataset.type]") == [
        ["Dr. ", "ADDRESS"],
        ["Iris Example", "NAME"],
    ]
    assert reviewer.saved() == [row(PLAIN, added=[mark(8, 24, "ADDRESS")])]


def test_a_selection_that_ends_at_a_mark_does_not_touch_it(reviewer: Reviewer) -> None:
    reviewer.page.open([found("Dr.Iris,MD", ("Iris", "NAME"))])

    reviewer.select(0, 3)
    reviewer.press("m", "8")

    assert reviewer.page.mark_texts == ["ADDRESS", "NAME"]


def test_a_part_of_a_rejected_mark_can_be_marked(reviewer: Reviewer) -> None:
    reviewer.page.open([PLAIN])

    reviewer.press("j", "x")
    reviewer.select_text("Example")
    reviewer.press("m", "8")

    assert reviewer.page.mark_texts == ["ADDRESS"]
    assert reviewer.rejected == ["Iris "]
    assert reviewer.saved() == [row(PLAIN, rejected=[0], added=[mark(17, 24, "ADDRESS")])]


def test_a_second_type_replaces_the_first(reviewer: Reviewer) -> None:
    reviewer.page.open([PLAIN])

    reviewer.select_text("Otto Brandt")
    reviewer.press("m", "1", "r")
    reviewer.select_text("Brandt")
    reviewer.press("m", "2")

    assert reviewer.saved() == [row(PLAIN, added=[mark(33, 44, "AGE")])]


def test_x_removes_an_added_mark(reviewer: Reviewer) -> None:
    reviewer.page.open([PLAIN])

    reviewer.select_text("Otto Brandt")
    reviewer.press("m", "1", "x")

    assert reviewer.page.mark_texts == ["NAME"]
    assert "Otto Brandt" in reviewer.page.note


# --- The caret ------------------------------------------------------------------------------------


def test_shift_and_arrow_keys_select_text(reviewer: Reviewer) -> None:
    reviewer.page.open([found("Jose\u0301 \U0001f600 Marsh")])
    reviewer.page.run("document.getElementById('note').focus()")

    selected: list[str] = []
    reviewer.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    for _ in range(4):
        reviewer.hold(Keys.SHIFT, Keys.ARROW_RIGHT)
        selected.append(reviewer.selected)

    assert selected == ["s", "se\u0301", "se\u0301 ", "se\u0301 \U0001f600"]


def test_the_caret_crosses_a_mask_in_one_step(reviewer: Reviewer) -> None:
    reviewer.page.open([PLAIN])

    reviewer.press("j")  # The caret is before the mark.
    reviewer.hold(Keys.SHIFT, Keys.ARROW_RIGHT)
    assert reviewer.selected == "NAME"
    reviewer.hold(Keys.SHIFT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert reviewer.selected == "NAME, "
    reviewer.hold(Keys.SHIFT, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert reviewer.selected == "NAME"
    reviewer.hold(Keys.SHIFT, Keys.ARROW_LEFT)
    assert reviewer.selected == ""


@pytest.mark.parametrize(
    ("arrows", "selected"),
    [
        (Keys.ARROW_RIGHT, "NAME"),
        (Keys.ARROW_RIGHT * 2, "NAMEID"),
        (Keys.ARROW_RIGHT * 3, "NAMEID"),
        (Keys.ARROW_RIGHT * 2 + Keys.ARROW_LEFT, "NAME"),
        (Keys.ARROW_RIGHT * 2 + Keys.ARROW_LEFT * 2, ""),
    ],
)
def test_the_caret_stops_between_two_masks(reviewer: Reviewer, arrows: str, selected: str) -> None:
    reviewer.page.open([found("IrisMarsh", ("Iris", "NAME"), ("Marsh", "ID"))])

    reviewer.press("j")
    reviewer.hold(Keys.SHIFT, arrows)

    assert reviewer.selected == selected


@pytest.mark.parametrize("text", ["one two", "\u05e9\u05dc\u05d5\u05dd \u05e8\u05d1"])
def test_the_caret_moves_through_the_text_in_the_direction_of_its_script(
    reviewer: Reviewer, text: str
) -> None:
    reviewer.page.open([found(text)])
    reviewer.page.run("document.getElementById('note').focus()")
    forward = Keys.ARROW_RIGHT if text.isascii() else Keys.ARROW_LEFT

    reviewer.hold(Keys.SHIFT, *[forward] * (len(text) - 1))
    assert reviewer.selected == text[:-1]
    reviewer.hold(Keys.SHIFT, *[forward] * 3)
    assert reviewer.selected == text


def test_the_caret_moves_by_words_lines_and_to_the_ends(reviewer: Reviewer) -> None:
    reviewer.page.open([found("one two\nthree four\nfive")])
    reviewer.page.run("document.getElementById('note').focus()")

    selected: list[str] = []
    reviewer.press(Keys.ARROW_DOWN)
    for hold, key in (
        *((Keys.SHIFT, Keys.END), (Keys.SHIFT, Keys.HOME), (Keys.SHIFT, Keys.ARROW_UP)),
        *((Keys.SHIFT + Keys.CONTROL, Keys.END), (Keys.SHIFT + Keys.CONTROL, Keys.HOME)),
    ):
        actions = webdriver.ActionChains(reviewer.page.browser)
        for modifier in hold:
            actions.key_down(modifier)
        actions.send_keys(key)
        for modifier in hold:
            actions.key_up(modifier)
        actions.perform()
        selected.append(reviewer.selected)

    assert selected == ["three four", "", "one two\n", "three four\nfive", "one two\n"]


def test_the_caret_stays_in_the_note(reviewer: Reviewer) -> None:
    reviewer.page.open([found("ab", ("b", "NAME"))])
    reviewer.page.run("document.getElementById('note').focus()")

    reviewer.hold(Keys.SHIFT, *[Keys.ARROW_LEFT] * 3, *[Keys.ARROW_RIGHT] * 9)

    assert reviewer.selected == "aNAME"
    reviewer.press("m", "2", "r")
    assert reviewer.page.mark_texts == ["ab"]


def test_the_caret_is_visible_while_the_note_has_the_focus(reviewer: Reviewer) -> None:
    reviewer.page.open([PLAIN])
    assert not reviewer.page.find(".caret").is_displayed()
    reviewer.page.run("document.getElementById('note').focus()")

    reviewer.press(Keys.ARROW_RIGHT)
    [first] = reviewer.page.each(".caret", "it.offsetLeft")
    reviewer.press(Keys.ARROW_RIGHT)

    assert reviewer.page.find(".caret").is_displayed()
    assert reviewer.page.each(".caret", "it.offsetLeft")[0] > first
    reviewer.press("/")
    assert not reviewer.page.find(".caret").is_displayed()


def test_a_screen_reader_hears_what_the_caret_crosses_or_selects(reviewer: Reviewer) -> None:
    reviewer.page.open([PLAIN])
    spoken = "return document.getElementById('spoken').textContent"

    reviewer.press("j")
    reviewer.press(Keys.ARROW_RIGHT)
    assert reviewer.page.run(spoken) == "NAME"
    reviewer.hold(Keys.SHIFT, *[Keys.ARROW_RIGHT] * 5)
    assert reviewer.page.run(spoken) == ", and"


def test_a_screen_reader_no_longer_hears_text_that_is_masked_again(reviewer: Reviewer) -> None:
    reviewer.page.open([PLAIN])

    reviewer.press("j", "r")
    reviewer.hold(Keys.SHIFT, *[Keys.ARROW_RIGHT] * 4)
    assert reviewer.selected == "Iris"
    reviewer.press(Keys.ESCAPE)

    assert "Iris" not in reviewer.page.everything()


# --- Find in the note -----------------------------------------------------------------------------


def test_find_selects_one_match_after_the_other(reviewer: Reviewer) -> None:
    reviewer.page.open([found("by Otto, BY Iris, by")])

    places: list[str] = []
    reviewer.find("by")
    for key in ("", "g", "g", "g", "G"):
        reviewer.press(*([key] if key else []))
        places.append(reviewer.page.text("#matches"))
        assert reviewer.selected.lower() == "by"

    assert places == ["1 of 3", "2 of 3", "3 of 3", "1 of 3", "3 of 3"]


def test_masked_text_is_not_found_until_it_is_revealed(reviewer: Reviewer) -> None:
    reviewer.page.open([PLAIN])

    reviewer.find("Iris Example, and")
    assert reviewer.page.text("#matches") == "0 found"
    reviewer.press(Keys.ESCAPE)
    reviewer.press("a")
    reviewer.find("Iris Example, and")

    assert reviewer.page.text("#matches") == "1 of 1"
    assert reviewer.selected == "Iris Example, and"


def test_what_is_looked_for_is_literal(reviewer: Reviewer) -> None:
    reviewer.page.open([found("a.b (c) [d] {e} x|y $1 ^2 \\n * + ? /-/ \U0001f600")])

    for text in ("a.b (c) [d] {e}", "x|y $1 ^2 \\n", "* + ? /-/ \U0001f600", "."):
        reviewer.page.run("document.getElementById('find').value = arguments[0]", text)
        reviewer.find("")
        assert reviewer.selected == text
    assert errors(reviewer.page) == []


def test_a_match_can_be_marked_at_once(reviewer: Reviewer) -> None:
    reviewer.page.open([PLAIN])

    reviewer.find("Otto Brandt")
    reviewer.press("m", "1")

    assert reviewer.saved() == [row(PLAIN, added=[mark(33, 44)])]


# --- Review documents -----------------------------------------------------------------------------


def test_v_marks_a_document_as_reviewed_and_the_page_counts_them(reviewer: Reviewer) -> None:
    page = reviewer.page.open([NOTE, OTHER, EMPTY])
    assert page.text("#reviewed-count") == "0 of 3 reviewed"

    reviewer.press("v", "n", "n", "v")

    assert page.text("#reviewed-count") == "2 of 3 reviewed"
    assert page.find("#progress").get_property("value") == 2
    assert page.rows == [
        "a.txt notes/ 3 entities \u2713reviewed",
        "b.txt notes/ 1 entity",
        "c.txt other/ 0 entities \u2713reviewed",
    ]
    reviewer.press("v")
    assert page.text("#reviewed-count") == "1 of 3 reviewed"


def test_w_goes_to_the_next_document_that_is_not_reviewed(reviewer: Reviewer) -> None:
    reviewer.page.open([NOTE, OTHER, EMPTY])

    reviewer.press("n", "v", "p")
    visited: list[str] = []
    for _ in range(2):
        reviewer.press("w")
        visited.append(reviewer.page.key)

    assert visited == ["other/c.txt", "notes/a.txt"]


def test_the_list_shows_how_many_marks_were_rejected_and_added(reviewer: Reviewer) -> None:
    reviewer.page.open([PLAIN])

    reviewer.press("j", "x")
    reviewer.select_text("Otto")
    reviewer.press("m", "1")

    assert reviewer.page.rows == ["p.txt notes/ 1 entity \u22121 +11 rejected, 1 added"]


# --- Undo -----------------------------------------------------------------------------------------


def test_undo_and_redo_go_through_all_changes_of_all_documents(reviewer: Reviewer) -> None:
    page = reviewer.page.open([PLAIN, OTHER])
    reviewer.press("j", "x")
    reviewer.select_text("Otto")
    reviewer.press("m", "1", "n", "v")

    def state() -> tuple[str, list[str], str]:
        return page.key[-5], page.mark_texts, page.text("#reviewed-count")[0]

    after = [("b", ["NAME"], "1")]
    for key in "uuuUUU":
        reviewer.press(key)
        after.append(state())

    assert after == [
        ("b", ["NAME"], "1"),
        ("b", ["NAME"], "0"),
        ("p", [], "0"),
        ("p", ["NAME"], "0"),
        ("p", [], "0"),
        ("p", ["NAME"], "0"),
        ("b", ["NAME"], "1"),
    ]
    assert reviewer.message == "Redone: Reviewed"


def test_a_new_change_ends_redo(reviewer: Reviewer) -> None:
    reviewer.page.open([NOTE])
    assert reviewer.enabled == []

    reviewer.press("v", "u")
    assert reviewer.enabled == ["redo"]
    reviewer.press("j", "x")

    assert reviewer.enabled == ["undo", "save"]


@pytest.mark.parametrize("redo", ["y", "Z"])
def test_control_keys_undo_redo_and_save(reviewer: Reviewer, redo: str) -> None:
    reviewer.page.open([NOTE])
    reviewer.press("v")

    reviewer.hold(Keys.CONTROL, "z")
    assert reviewer.page.text("#reviewed-count") == "0 of 1 reviewed"
    reviewer.hold(Keys.CONTROL, redo)
    assert reviewer.page.text("#reviewed-count") == "1 of 1 reviewed"
    reviewer.hold(Keys.CONTROL, "s")

    assert reviewer.message.startswith("Saved as decisions-")
    assert not reviewer.warns


# --- Save and load --------------------------------------------------------------------------------


def decide_much(reviewer: Reviewer) -> None:
    """Reject, add and review with the keyboard only, in two documents."""
    reviewer.press("j", "x", "v", "n")
    reviewer.find("Otto Brandt")
    reviewer.press("m", "1")


DECIDED = [row(NOTE, reviewed=True, rejected=[0]), row(PLAIN, added=[mark(33, 44)])]


def test_the_file_contains_the_decided_documents_in_the_order_of_the_page(
    reviewer: Reviewer,
) -> None:
    reviewer.page.open([NOTE, PLAIN, OTHER])

    decide_much(reviewer)

    assert reviewer.saved() == DECIDED


def test_the_file_contains_no_text_of_a_note(reviewer: Reviewer) -> None:
    reviewer.page.open([NOTE, PLAIN])

    decide_much(reviewer)
    content = reviewer.save().read_text(encoding="utf-8")

    words = {*NOTE[1].split(), *SEEN.split()}
    assert {word for word in words if len(word) > 3 and word in content} == set()


def test_loading_a_saved_file_restores_all_decisions(reviewer: Reviewer) -> None:
    page = reviewer.page.open([NOTE, PLAIN, OTHER])
    decide_much(reviewer)
    content = reviewer.save().read_text(encoding="utf-8")
    page.open([NOTE, PLAIN, OTHER])
    assert reviewer.enabled == []

    reviewer.load(content)

    assert reviewer.message.startswith("Loaded decisions about 2 documents, ")
    assert page.text("#reviewed-count") == "1 of 3 reviewed"
    assert reviewer.rejected == [NAME]
    assert not reviewer.warns
    assert reviewer.saved() == DECIDED


def test_a_loaded_file_replaces_the_decisions_about_its_documents_only(
    reviewer: Reviewer,
) -> None:
    reviewer.page.open([NOTE, OTHER])
    reviewer.press("v", "n", "v")

    reviewer.load(json.dumps({"version": 1, "documents": [row(NOTE, rejected=[2])]}))

    assert reviewer.message.endswith("and replaced earlier ones about 1 document")
    assert reviewer.warns
    assert reviewer.saved() == [row(NOTE, rejected=[2]), row(OTHER, reviewed=True)]
    reviewer.press("u")
    assert reviewer.saved() == [row(NOTE, reviewed=True), row(OTHER, reviewed=True)]


CANARY = "Zinnia-Quellwasser"


def changed(**members: Any) -> dict[str, Any]:
    return {"version": 1, "documents": [row(PLAIN, **members)]}


REFUSED: dict[str, tuple[Any, str]] = {
    "no JSON": (CANARY, "The file is not JSON."),
    "no object": ([CANARY], "The file is not an object."),
    "no version": ({"documents": []}, "The file lacks version."),
    "unknown version": ({"version": 2, "documents": []}, "a version that this page does not know"),
    "unknown member": ({"version": 1, "documents": [], CANARY: 1}, "The file has unknown members."),
    "no list": ({"version": 1, "documents": {}}, "The member documents is not a list."),
    "unknown member of a document": (changed(**{CANARY: 1}), "Document 1 of the file has unknown"),
    "unknown key": (changed(input_key=CANARY), "Document 1 of the file is not on this page."),
    "same document twice": (
        {"version": 1, "documents": [row(PLAIN), row(PLAIN)]},
        "Document 2 of the file occurs twice.",
    ),
    "another note": (changed(sha256=CANARY), "was made for another version of the note."),
    "reviewed": (changed(reviewed=CANARY), "does not say whether it is reviewed."),
    "rejected": (changed(rejected=CANARY), "has no list of ids."),
    "id": (changed(rejected=[CANARY]), "has no list of ids."),
    "id twice": (changed(rejected=[0, 0]), "rejects an entity twice."),
    "unknown id": (changed(rejected=[0, 5550142]), "rejects an entity that does not exist."),
    "added": (changed(added=CANARY), "has no list of added marks."),
    "added mark": (changed(added=[CANARY]), "is not an object."),
    "member of an added mark": (
        changed(added=[{**mark(0, 4), CANARY: 1}]),
        "An added mark of Document 1 of the file has unknown members.",
    ),
    "negative offset": (changed(added=[mark(-1, 4)]), "offsets that do not fit."),
    "empty mark": (changed(added=[mark(4, 4)]), "offsets that do not fit."),
    "offset after the end": (changed(added=[mark(0, len(SEEN) + 1)]), "offsets that do not fit."),
    "fraction": (changed(added=[{**mark(0, 4), "end_offset": 3.5}]), "offsets that do not fit."),
    "unknown type": (changed(added=[mark(0, 4, CANARY)]), "an added mark of an unknown type."),
    "mark twice": (changed(added=[mark(0, 4), mark(0, 4)]), "has an added mark twice."),
}


def test_a_file_that_does_not_fit_is_refused_as_a_whole_and_not_quoted(
    reviewer: Reviewer,
) -> None:
    reviewer.page.open([PLAIN])
    reviewer.press("v")

    for content, problem in REFUSED.values():
        reviewer.load(content if isinstance(content, str) else json.dumps(content))
        assert reviewer.problem.startswith("Nothing was loaded. ")
        assert problem in reviewer.problem
        assert CANARY not in reviewer.problem
        assert "5550142" not in reviewer.problem
    assert CANARY not in reviewer.page.everything()

    assert reviewer.saved() == [row(PLAIN, reviewed=True)]
    assert reviewer.problem == ""


def test_a_file_that_rejects_only_a_part_of_a_mark_is_refused(reviewer: Reviewer) -> None:
    note = found("Iris Example MD", ("Iris Example", "NAME"), ("Example MD", "ID"))
    reviewer.page.open([note])

    reviewer.load(json.dumps({"version": 1, "documents": [row(note, rejected=[1])]}))

    assert reviewer.problem.endswith("rejects only some of the entities that share a mark.")


def test_leaving_the_page_with_unsaved_changes_warns(reviewer: Reviewer) -> None:
    reviewer.page.open([NOTE])

    warns: list[bool] = []
    steps: list[Callable[[], object]] = [
        lambda: None,
        lambda: reviewer.press("v"),
        reviewer.save,
        lambda: reviewer.press("u"),
        lambda: reviewer.press("U"),
        lambda: reviewer.press("u", "j", "x"),
    ]
    for step in steps:
        step()
        warns.append(reviewer.warns)

    assert warns == [False, True, False, True, False, True]


def test_deciding_saving_and_loading_request_nothing_and_store_nothing(
    reviewer: Reviewer,
) -> None:
    reviewer.page.browser.get("about:blank")
    requests(reviewer.page)
    reviewer.page.open([NOTE, PLAIN])

    decide_much(reviewer)
    reviewer.load(reviewer.save().read_text(encoding="utf-8"))

    assert {url for url in requests(reviewer.page) if not url.startswith("blob:")} == {
        reviewer.page.url
    }
    assert reviewer.page.run("return localStorage.length + sessionStorage.length") == 0
    assert reviewer.page.run("return document.cookie") == ""
    assert errors(reviewer.page) == []


# --- From the page to the redacted copy -----------------------------------------------------------

WARD = (
    "\U0001f469\u200d\u2695\ufe0f Patient: Ottoline Marsh \U0001f600\r\n"
    "Jose\u0301 saw Dr. Iris Example.\r\n"
    "\u05e9\u05dc\u05d5\u05dd Otto Brandt, {new} \u202e555-0142\u202c.\r\n"
)
NEW_TEXTS = [
    pytest.param("Zoe\u0308 Quist", id="combining mark"),
    pytest.param("\U0001d4e9\U0001d4f8\U0001d4eb", id="outside the basic plane"),
    pytest.param("\u05e8\u05d5\u05ea \u05db\u05d4\u05df", id="right to left"),
    pytest.param("Quist\r\nZinnia", id="across lines"),
]


@pytest.mark.parametrize("new", NEW_TEXTS)
def test_a_rejected_and_an_added_mark_change_exactly_these_spans_of_the_redacted_copy(
    reviewer: Reviewer, new: str
) -> None:
    text = WARD.format(new=new)
    spans = (("Ottoline Marsh", "NAME"), ("Iris Example", "NAME"), ("555-0142", "PHONE_OR_FAX"))
    document, _ = found(text, *spans)
    reviewer.page.open([(document, text)])

    reviewer.press("j", "j", "x")
    reviewer.select_text(new)
    reviewer.press("m", "8", "v")
    decided = Decisions.load(reviewer.save()).apply(document, text, require_reviewed=True)

    before = text.replace("Ottoline Marsh", "[NAME]").replace("555-0142", "[PHONE_OR_FAX]")
    assert redact(text, document.entities) == before.replace("Iris Example", "[NAME]")
    assert redact(text, decided.entities) == before.replace(new, "[ADDRESS]")


def test_the_page_and_python_read_and_write_the_same_file(
    reviewer: Reviewer, tmp_path: Path
) -> None:
    reviewer.page.open([NOTE, PLAIN])
    decide_much(reviewer)
    decisions = Decisions.load(reviewer.save())

    decisions.save(tmp_path / "copy.json")
    reviewer.page.open([NOTE, PLAIN])
    reviewer.load((tmp_path / "copy.json").read_text(encoding="utf-8"))

    assert reviewer.saved() == DECIDED


def test_a_reviewer_needs_only_the_keyboard(reviewer: Reviewer) -> None:
    document, text = PLAIN
    page = reviewer.page.open([PLAIN])

    # Without shortcuts, there are the buttons, and the arrow keys in the note.
    reviewer.press("?", Keys.TAB, Keys.SPACE, Keys.ESCAPE)
    assert not page.find("#shortcuts").is_selected()

    def tab_to(selector: str) -> None:
        for _ in range(40):
            if page.run("return document.activeElement.matches(arguments[0])", selector):
                return
            reviewer.press(Keys.TAB)
        pytest.fail(f"Tab does not reach {selector}")

    tab_to(".mark")
    tab_to("#reject")
    reviewer.press(Keys.ENTER)
    tab_to("#note")
    reviewer.hold(Keys.CONTROL, Keys.END)
    reviewer.press(Keys.ARROW_LEFT)
    reviewer.hold(Keys.SHIFT, *[Keys.ARROW_LEFT] * len("Otto Brandt"))
    tab_to("#add")
    reviewer.press(Keys.ENTER)
    reviewer.press(Keys.ENTER)  # the first type
    tab_to("#reviewed")
    reviewer.press(Keys.ENTER)
    tab_to("#save")
    decided = Decisions.load(reviewer.save(Keys.ENTER)).apply(document, text)

    assert redact(text, decided.entities) == "Seen by Dr. Iris Example, and by [NAME]."


# --- For any text and decisions -------------------------------------------------------------------


def test_javascript_and_python_convert_offsets_alike(page: Page) -> None:
    page.open([])
    characters = st.characters(exclude_categories=["Cs"]) | st.sampled_from("a\r\n\u0301\U0001f600")

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.text(characters), max_size=20))
    def agree(texts: list[str]) -> None:
        converted = page.run(
            "return arguments[0].map((text) => {"
            "  const points = [...Array([...text].length + 1).keys()];"
            "  return points.map((point) => {"
            "    const units = unitsBefore(text, point);"
            "    return [units, pointsBefore(text, units)];"
            "  });"
            "})",
            texts,
        )
        assert converted == [
            [[units(text[:at]), at] for at in range(len(text) + 1)] for text in texts
        ]

    agree()


@st.composite
def decided_notes(draw: st.DrawFn) -> tuple[str, list[tuple[int, int]], set[int], list[list[int]]]:
    """Return a text, the spans of detected marks, which are rejected, and the added spans."""
    text = draw(st.text("aB \n\u0301\U0001f600", max_size=30))
    cuts = draw(st.lists(st.integers(0, len(text)), unique=True).map(sorted))
    found = list(zip(cuts[::2], cuts[1::2], strict=False))
    rejected = draw(st.sets(st.integers(0, len(found) - 1))) if found else set[int]()
    span = st.lists(st.integers(0, len(text)), min_size=2, max_size=2, unique=True).map(sorted)
    added = draw(st.lists(span, unique_by=tuple, max_size=4)) if text else []
    return text, found, rejected, added


APPLY = """
const [text, found, rejected, added] = arguments;
const points = [...text];
const slice = (begin, end) => points.slice(begin, end).join("");
const pieces = [];
let position = 0;
for (const [id, [begin, end]] of found.entries()) {
  const entities = [{ id, type: "NAME", score: 0.5 }];
  pieces.push(slice(position, begin), { entities, segments: [[slice(begin, end), 0]] });
  position = end;
}
pieces.push(slice(position));
const note = readNote({ key: "k", sha256: "h", model: null, pieces });
const units = (point) => unitsBefore(text, point);
const decision = {
  reviewed: false,
  rejected: new Set(rejected.map((index) => note.marks[index])),
  added: added.map(([begin, end]) => addedMark(units(begin), units(end), "ID")),
};
const file = toFile([note], [decision]);
const loaded = fromFile(file, [note], ["ID"]);
return {
  spots: spotsOf(note, decision).map((spot) => [
    pointsBefore(text, spot.begin),
    pointsBefore(text, spot.end),
    spot.isRejected,
    partsOf(spot, text).map((part) => part.text).join(""),
  ]),
  file,
  again: toFile([note], [loaded.get(0) ?? UNDECIDED]),
};
"""


def test_the_page_masks_exactly_the_accepted_characters(page: Page) -> None:
    page.open([])

    def points(spans: Iterable[Sequence[int]]) -> set[int]:
        return {point for span in spans for point in range(span[0], span[1])}

    @settings(max_examples=60, deadline=None)
    @given(decided_notes())
    def agree(
        decided: tuple[str, list[tuple[int, int]], set[int], list[list[int]]],
    ) -> None:
        text, found, rejected, added = decided
        kept = [span for index, span in enumerate(found) if index not in rejected]
        accepted = points([*kept, *added])

        shown = page.run(APPLY, text, found, sorted(rejected), added)

        spots = shown["spots"]
        assert points(spot for spot in spots if not spot[2]) == accepted
        assert points(spot for spot in spots if spot[2]) == points(found) - accepted
        assert sorted(spots) == spots
        assert all(one[1] <= other[0] for one, other in pairwise(spots))
        assert all(spot[3] == text[spot[0] : spot[1]] for spot in spots if not spot[2])
        assert shown["again"] == shown["file"]

    agree()
