"""The review page in a browser: what it shows, what the keys do, and that nothing leaks."""

from __future__ import annotations

import socket

import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from comprehend_phi import Document, UnprocessedFile

from .conftest import DATE, EMPTY, NAME, NOTE, OTHER, PHONE, Page, errors, found, requests

# --- Marks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        pytest.param("\U0001d4de\U0001f600 Marsh, seen", "Marsh", id="astral before"),
        pytest.param("a \U0001f600\U0001f469\u200d\u2695 b", "\U0001f600", id="astral inside"),
        pytest.param("Pt:\r\n\tMarsh  \r\n\r\nseen", "Marsh", id="CRLF, tab, spaces"),
        pytest.param("Marsh", "Marsh", id="all of it"),
        pytest.param("\u05e9\u05dc\u05d5\u05dd Marsh \u202eseen", "Marsh", id="right to left"),
    ],
)
def test_a_mark_is_where_the_entity_is(page: Page, text: str, piece: str) -> None:
    page.open([found(text, (piece, "NAME"))])
    page.press("a")

    before = page.run(
        "const range = document.createRange();"
        "range.setStart(document.getElementById('note'), 0);"
        "range.setEndBefore(document.querySelector('.mark'));"
        "return range.toString()"
    )
    assert before == text.partition(piece)[0]
    assert page.mark_texts == [piece]
    assert page.note == text


def test_line_endings_and_spaces_are_shown_unchanged(page: Page) -> None:
    page.open([found("a\r\n\r\n  b   c\n\td")])

    assert page.run("return document.getElementById('note').innerText").replace("\r", "") == (
        "a\n\n  b   c\n\td"
    )


def test_entities_that_overlap_share_a_mark_that_names_all_their_types(page: Page) -> None:
    page.open([found("Dr. Iris Example MD, 7", ("Iris Example", "NAME"), ("Example MD", "ID"))])

    assert page.mark_texts == ["NAME + ID"]
    page.press("j", "r")
    assert page.mark_texts == ["Iris Example MD"]
    assert page.each(".part", "it.textContent") == ["Iris ", "Example", " MD"]
    assert page.each(".part", "it.dataset.type") == ["NAME", "ID", "ID"]
    assert page.text("#current") == "1 of 1 NAME score 0.90 ID score 0.90"


def test_types_differ_in_label_color_and_line(page: Page) -> None:
    page.open([NOTE])

    assert page.mark_texts == ["NAME", "PHONE_OR_FAX", "DATE"]
    for style in ("borderBottomColor", "backgroundImage", "borderBottom"):
        assert len(set(page.each(".mark", f"getComputedStyle(it).{style}"))) == 3
    lines = "getComputedStyle(it).borderTopStyle + getComputedStyle(it).borderBottomStyle"
    assert len(set(page.each(".mark", lines))) == 3


def test_contact_points_and_identifiers_are_marked_counted_and_filtered(page: Page) -> None:
    spans = (("555-0142", "CONTACT_POINT"), ("XY-1", "IDENTIFIER"))
    page.open([found("Pager 555-0142, plate XY-1", *spans)])

    assert page.mark_texts == ["CONTACT_POINT", "IDENTIFIER"]
    gray = page.run("return getComputedStyle(document.body).getPropertyValue('--gray')")
    hues = page.each(".mark", "getComputedStyle(it).getPropertyValue('--hue')")
    assert len({gray, *hues}) == 3
    assert page.text("#counts").startswith("1 CONTACT_POINT · 1 IDENTIFIER")
    page.click(".chip[data-type=IDENTIFIER]")
    assert page.filtered == [False, True]


def test_an_unknown_type_is_marked(page: Page) -> None:
    page.open([found("plate XY-1", ("XY-1", "LICENCE_PLATE"))])

    assert page.mark_texts == ["LICENCE_PLATE"]
    assert page.marks[0].value_of_css_property("border-bottom-style") == "dashed"


# --- Masks ----------------------------------------------------------------------------------------


def test_masked_text_cannot_be_read_found_selected_or_heard(page: Page) -> None:
    page.open([NOTE, OTHER])

    everything = page.everything()

    assert "Patient: " in everything
    assert not [text for text in (NAME, "Ottoline", PHONE, DATE) if text in everything]
    assert page.run("return window.find('Patient')")
    assert not page.run("return window.find('Ottoline')")


def test_the_width_of_a_mask_does_not_depend_on_the_text(page: Page) -> None:
    page.open([found("Al / Wilhelmina Quist", ("Al", "NAME"), ("Wilhelmina Quist", "NAME"))])

    short, long = page.marks
    assert short.size == long.size


def test_a_click_reveals_one_entity_and_the_next_click_masks_it(page: Page) -> None:
    page.open([NOTE])

    page.marks[0].click()
    assert page.mark_texts == [NAME, "PHONE_OR_FAX", "DATE"]
    assert NAME in page.text("#note")
    page.marks[0].click()
    assert page.mark_texts == ["NAME", "PHONE_OR_FAX", "DATE"]
    assert NAME not in page.everything()


def test_a_revealed_entity_can_be_read_found_and_heard(page: Page) -> None:
    page.open([NOTE])

    page.marks[0].click()

    assert page.run("return window.find('Ottoline')")
    assert page.marks[0].accessible_name == f"NAME: {NAME}"
    assert page.marks[1].accessible_name == "PHONE_OR_FAX, masked"


def test_a_button_reveals_and_masks_all_entities(page: Page) -> None:
    page.open([NOTE])

    page.click("#reveal-all")
    assert page.mark_texts == [NAME, PHONE, DATE]
    assert page.note == NOTE[1]
    assert page.text("#reveal-all") == "Mask all a"
    page.click("#reveal-all")
    assert page.mark_texts == ["NAME", "PHONE_OR_FAX", "DATE"]


def test_opening_another_document_masks_everything(page: Page) -> None:
    page.open([NOTE, OTHER])

    page.press("a", "n", "p")

    assert page.key == "notes/a.txt"
    assert page.mark_texts == ["NAME", "PHONE_OR_FAX", "DATE"]


def test_selecting_revealed_text_does_not_mask_it(page: Page) -> None:
    page.open([NOTE])
    page.marks[0].click()

    webdriver.ActionChains(page.browser).move_to_element_with_offset(
        page.marks[0], -40, 0
    ).click_and_hold().move_by_offset(50, 0).release().perform()

    assert page.run("return getSelection().toString()") in NAME
    assert page.mark_texts[0] == NAME


def test_masked_text_is_printed_masked(page: Page) -> None:
    page.open([NOTE])
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})

    assert page.find("#note").is_displayed()
    assert page.find(".banner").is_displayed()
    assert not page.find("nav").is_displayed()
    assert NAME not in page.everything()


# --- Documents ------------------------------------------------------------------------------------


def test_the_list_shows_each_document_with_its_number_of_entities(page: Page) -> None:
    page.open([NOTE, OTHER, EMPTY])

    assert page.rows == [
        "a.txt notes/ 3 entities",
        "b.txt notes/ 1 entity",
        "c.txt other/ 0 entities",
    ]


def test_a_click_opens_a_document(page: Page) -> None:
    page.open([NOTE, OTHER])

    page.click("#row-1")

    assert page.key == "notes/b.txt"
    assert page.text("#counts") == "1 NAME \u00b7 model 1.0.0"
    assert page.note == "Seen by Dr. NAME."
    assert page.find("#row-1").get_attribute("aria-selected") == "true"


def test_a_document_without_entities_says_so(page: Page) -> None:
    page.open([EMPTY])

    assert "Nothing was found in this document" in page.text("#counts")
    assert page.note == "Nothing here."


def test_a_page_without_documents_says_so(page: Page) -> None:
    page.open([])

    assert page.key == "There are no documents"
    page.press("j", "r", "a", "n", "p", "0")
    assert errors(page) == []


def test_documents_are_found_by_part_of_their_key(page: Page) -> None:
    page.open([NOTE, OTHER, EMPTY])

    page.press("/")
    page.press("OTHER/")

    assert page.rows == ["c.txt other/ 0 entities"]
    assert page.text("#found") == "1 found"
    page.press(Keys.ESCAPE)
    assert page.run("return document.activeElement.id") == "list"


def test_files_that_were_not_processed_are_visible(page: Page) -> None:
    file = UnprocessedFile(input_key="notes/x.txt", error_code="TOO_LARGE", error_message="Large.")
    page.open([NOTE], unprocessed=[file])

    assert page.text(".unprocessed") == (
        "1 file was not processed. Nobody has looked for PHI in it, and it is not on this page."
        " notes/x.txt TOO_LARGE Large."
    )


def test_notes_that_cannot_be_shown_are_visible(page: Page) -> None:
    page.open([NOTE], failed={"notes/x.txt": "The note is gone"})

    assert page.text(".left-out") == (
        "1 note cannot be shown. The job processed it, but it is not on this page."
        " notes/x.txt The note is gone"
    )


def many(count: int) -> list[tuple[Document, str]]:
    return [found(f"Patient: {NAME}", (NAME, "NAME"), key=f"n/{n:04}.txt") for n in range(count)]


def test_two_thousand_documents_need_no_more_elements_than_forty(page: Page) -> None:
    elements = "return document.getElementsByTagName('*').length"
    few = page.open(many(40)).run(elements)

    page.open(many(2000))

    assert page.run(elements) <= few
    page.click("#list")
    page.press(Keys.END)
    assert page.key == "n/1999.txt"
    assert page.each("#row-1999", "it.checkVisibility()") == [True]
    assert page.run(elements) <= few


def test_the_list_scrolls_through_all_documents(page: Page) -> None:
    page.open(many(2000))

    page.run(
        "const list = document.getElementById('list');"
        "list.scrollTop = list.scrollHeight / 2;"
        "return new Promise((done) => list.addEventListener('scroll', done, { once: true }))"
    )

    assert page.each("#row-1000", "it.checkVisibility()") == [True]


# --- Filters --------------------------------------------------------------------------------------


def test_a_type_can_be_hidden_and_shown(page: Page) -> None:
    page.open([NOTE, OTHER])

    page.click(".chip[data-type=NAME]")
    assert page.filtered == [True, False, False]
    assert page.rows == ["a.txt notes/ 2 of 3 entities", "b.txt notes/ 0 of 1 entity"]
    page.click(".chip[data-type=NAME]")
    assert page.filtered == [False, False, False]


def test_a_minimum_score_hides_only_lower_scores(page: Page) -> None:
    page.open([NOTE])

    page.find("#minimum").send_keys(*[Keys.ARROW_RIGHT] * 75)

    assert page.text("#minimum-shown") == "0.75"
    assert page.filtered == [False, True, False]
    assert page.rows == ["a.txt notes/ 2 of 3 entities"]


def test_a_mark_of_several_entities_is_shown_while_one_of_them_is(page: Page) -> None:
    page.open([found("Iris Example MD", ("Iris Example", "NAME"), ("Example MD", "ID"))])

    page.click(".chip[data-type=NAME]")
    assert page.filtered == [False]
    page.click(".chip[data-type=ID]")
    assert page.filtered == [True]


def test_filtered_entities_stay_masked_when_all_are_revealed(page: Page) -> None:
    page.open([NOTE])

    page.click(".chip[data-type=NAME]")
    page.press("a")

    assert page.mark_texts == ["NAME", PHONE, DATE]
    assert NAME not in page.everything()


def test_a_button_clears_all_filters(page: Page) -> None:
    page.open([NOTE])
    page.click(".chip[data-type=NAME]")
    page.find("#minimum").send_keys(Keys.END)

    page.click("#clear")

    assert page.filtered == [False, False, False]
    assert page.text("#minimum-shown") == "0.00"
    assert page.rows == ["a.txt notes/ 3 entities"]


def test_a_score_is_truncated_not_rounded(page: Page) -> None:
    page.open([found("Al, Bo", ("Al", "NAME"), ("Bo", "NAME"), scores=(0.999, 0.29))])

    page.press("j")
    assert page.text("#current") == "1 of 2 NAME score 0.99"
    page.press("j")
    assert page.text("#current") == "2 of 2 NAME score 0.29"


# --- Keys -----------------------------------------------------------------------------------------


def test_j_and_k_step_through_entities_and_stop_at_both_ends(page: Page) -> None:
    page.open([NOTE])

    visited: list[int] = []
    for key in "jjjjkkkk":
        page.press(key)
        visited.append(page.current)

    assert visited == [0, 1, 2, 2, 1, 0, 0, 0]


def test_the_current_entity_has_the_focus(page: Page) -> None:
    page.open([NOTE])

    page.press("j", "j")

    assert page.browser.switch_to.active_element == page.marks[1]


def test_tab_steps_through_entities(page: Page) -> None:
    page.open([NOTE])
    page.press("j", Keys.TAB)

    assert page.current == 1
    assert page.text("#current") == "2 of 3 PHONE_OR_FAX score 0.50"


def test_stepping_skips_filtered_entities(page: Page) -> None:
    page.open([NOTE])
    page.click(".chip[data-type=PHONE_OR_FAX]")

    page.press("j", "j")

    assert page.current == 2
    assert page.text("#current") == "2 of 2 DATE score 0.75"


@pytest.mark.parametrize("key", ["r", Keys.ENTER, Keys.SPACE])
def test_a_key_reveals_the_current_entity_and_masks_it_again(page: Page, key: str) -> None:
    page.open([NOTE])

    page.press("j", key)
    assert page.mark_texts == [NAME, "PHONE_OR_FAX", "DATE"]
    page.press(key)
    assert page.mark_texts == ["NAME", "PHONE_OR_FAX", "DATE"]


def test_r_reveals_nothing_while_no_entity_is_current(page: Page) -> None:
    page.open([NOTE])

    page.press("r")

    assert page.mark_texts == ["NAME", "PHONE_OR_FAX", "DATE"]


def test_a_reveals_all_and_escape_masks_all(page: Page) -> None:
    page.open([NOTE])

    page.press("a")
    assert page.mark_texts == [NAME, PHONE, DATE]
    page.press(Keys.ESCAPE)
    assert page.mark_texts == ["NAME", "PHONE_OR_FAX", "DATE"]


def test_n_and_p_step_through_documents_and_stop_at_both_ends(page: Page) -> None:
    page.open([NOTE, OTHER, EMPTY])

    visited: list[str] = []
    for key in "nnnppp":
        page.press(key)
        visited.append(page.key.removesuffix(".txt")[-1])

    assert "".join(visited) == "bccbaa"


def test_n_steps_only_through_documents_that_were_found(page: Page) -> None:
    page.open([NOTE, OTHER, EMPTY])
    page.find("#search").send_keys("c.txt", Keys.ESCAPE)

    page.press("n")

    assert page.key == "other/c.txt"


def test_arrow_keys_step_through_the_list(page: Page) -> None:
    page.open([NOTE, OTHER, EMPTY])
    page.click("#list")
    page.press(Keys.HOME, Keys.ARROW_DOWN)

    assert page.key == "notes/b.txt"
    assert page.find("#list").get_attribute("aria-activedescendant") == "row-1"


def test_digits_hide_and_show_types_and_0_clears_the_filters(page: Page) -> None:
    page.open([NOTE])

    page.press("1")
    assert page.filtered == [True, False, False]
    page.press("2")
    assert page.filtered == [True, True, False]
    page.press("0")
    assert page.filtered == [False, False, False]


def test_letters_in_the_search_field_are_not_shortcuts(page: Page) -> None:
    page.open([NOTE, OTHER])

    page.find("#search").send_keys("ajr?n")

    assert page.find("#search").get_property("value") == "ajr?n"
    assert page.key == "notes/a.txt"
    assert page.mark_texts == ["NAME", "PHONE_OR_FAX", "DATE"]


def test_the_question_mark_shows_and_hides_the_help_which_disables_other_keys(page: Page) -> None:
    page.open([NOTE])

    page.press("?")
    assert "go to the next or previous mark" in page.text("#help")
    page.press("a")
    assert page.mark_texts == ["NAME", "PHONE_OR_FAX", "DATE"]
    page.press("?")
    assert not page.find("#help").is_displayed()


def test_single_key_shortcuts_can_be_disabled(page: Page) -> None:
    page.open([NOTE])
    page.press("?")
    page.click("#shortcuts")
    page.click("#close")

    page.press("a", "j", "n")

    assert page.mark_texts == ["NAME", "PHONE_OR_FAX", "DATE"]
    assert page.current == -1


# --- Light and dark -------------------------------------------------------------------------------


def brightness(page: Page) -> int:
    """Return the sum of red, green and blue of the background."""
    color: str = page.run("return getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in color.removeprefix("rgb(").removesuffix(")").split(","))


def prefer(page: Page, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def test_the_page_follows_the_readers_preference_for_light_or_dark(page: Page) -> None:
    prefer(page, "light")
    page.open([NOTE])
    assert brightness(page) > 600
    prefer(page, "dark")
    page.open([NOTE])
    assert brightness(page) < 150


def test_the_reader_can_switch_between_light_and_dark(page: Page) -> None:
    prefer(page, "dark")
    page.open([NOTE])

    page.press("t")
    assert brightness(page) > 600
    page.click("#theme")
    assert brightness(page) < 150


def test_a_printed_page_is_light(page: Page) -> None:
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.open([NOTE])
    page.browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"media": "print", "features": features}
    )

    assert page.run("return getComputedStyle(document.body).color") == "rgb(27, 35, 48)"


@pytest.mark.parametrize("width", [360, 480, 800, 1280])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    key = "notes/" + "a-very-long-name-without-an-end" * 6
    page.open([found("x" * 300 + NAME * 9, (NAME * 9, "NAME"), key=key)])
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.press("a")
        assert page.run("return document.documentElement.scrollWidth") <= width
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("width", [320, 480, 760])
def test_the_buttons_below_a_narrow_note_cover_neither_the_mark_nor_the_match(
    page: Page, width: int
) -> None:
    page.open([found(f"{NAME} was here.\n" + "A line of text.\n" * 9, (NAME, "NAME"))])
    metrics = {"width": width, "height": 700, "deviceScaleFactor": 1, "mobile": False}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        for keys, place in ((("j",), ".mark"), (("f", "was", Keys.ENTER), ".caret")):
            page.run("scrollTo(0, 0)")
            page.press(*keys)
            [bottom] = page.each(place, "it.getBoundingClientRect().bottom")
            [buttons] = page.each(".current", "it.getBoundingClientRect().top")
            assert bottom <= buttons
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


# --- Nothing runs, nothing leaves -----------------------------------------------------------------


HOSTILE = (
    "<script>window.ran = 1</script><img src=x onerror='window.ran = 1'></script>"
    "<!--<svg onload=window.ran=1>{{ 7 * 7 }} &lt;b&gt; \u2028"
)


def test_markup_in_a_note_is_shown_as_text_and_not_run(page: Page) -> None:
    page.open(
        [found(f"{HOSTILE} Marsh {HOSTILE[::-1]}", (HOSTILE, HOSTILE), key=HOSTILE)],
        title=HOSTILE,
        unprocessed=[UnprocessedFile(input_key=HOSTILE, error_code=HOSTILE, error_message=HOSTILE)],
        failed={HOSTILE: HOSTILE},
    )

    page.press("a", "j")

    assert page.run("return window.ran") is None
    assert page.run("return document.images.length + document.querySelectorAll('svg').length") == 0
    assert page.note == f"{HOSTILE} Marsh {HOSTILE[::-1]}"
    for selector in ("#key", "h1", ".unprocessed code", ".chip [dir]", ".tag"):
        assert page.run(f"return document.querySelector({selector!r}).textContent") == HOSTILE
    assert errors(page) == []


def test_the_page_requests_only_itself(page: Page) -> None:
    page.browser.get("about:blank")
    requests(page)

    page.open([NOTE, OTHER])
    page.press("j", "r", "a", "n", "p", "t", "?", "?", "1", "0", "/", "x", Keys.ESCAPE)

    assert requests(page) == {page.url}


LEAKS = {
    "image": "new Image().src = address",
    "fetch": "fetch(address).catch(() => {})",
    "script": "add('script').append('window.ran = 1')",
    "handler": "document.body.setAttribute('onclick', 'window.ran = 1'); document.body.click()",
    "markup": "document.body.innerHTML += '<b>x</b>'",
    "style": "add('style').textContent = `@import '${address}'`",
    "frame": "add('iframe').src = address",
    "form": "const form = add('form'); form.action = address; form.submit()",
}


def received(server: socket.socket) -> bytes:
    """Return what the server received. The browser may connect early, but must send nothing."""
    server.setblocking(False)
    try:
        connection, _ = server.accept()
    except BlockingIOError:
        return b""
    with connection:
        connection.setblocking(False)
        try:
            return connection.recv(1)
        except BlockingIOError:
            return b""


@pytest.mark.parametrize("leak", LEAKS)
def test_the_policy_stops_code_and_leaks(page: Page, leak: str) -> None:
    page.open([NOTE])
    with socket.create_server(("127.0.0.1", 0)) as server:
        # Returns when the policy stops something, and fails with a timeout if it does not.
        page.browser.execute_async_script(
            "const [address, done] = arguments;"
            "const add = (tag) => document.body.appendChild(document.createElement(tag));"
            "document.addEventListener('securitypolicyviolation', () => done());"
            f"try {{ {LEAKS[leak]} }} catch {{}}",
            f"http://127.0.0.1:{server.getsockname()[1]}/",
        )

        assert received(server) == b""
    assert page.run("return window.ran") is None
