"""The HTML that `render` returns. `test_browser.py` tests how the page behaves."""

from __future__ import annotations

import json
import math
import re
import sys
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comprehend_phi import Document, Entity, EntityType, UnprocessedFile, review
from comprehend_phi.errors import RedactionError, RequestValidationError
from comprehend_phi.review import render

from ..conftest import CANARY
from ..entities import entity

CODE = "<script>alert(1)</script><!--<img src=x onerror=alert(2)> ]]> \" ' & \u2028\u2029"
CSS = files("comprehend_phi.review").joinpath("assets", "page.css").read_text(encoding="utf-8")


def document(*entities: Entity, key: str = "notes/a.txt") -> Document:
    return Document(
        input_key=key, output_key=f"{key}.out", entities=entities, model_version="1.0.0"
    )


class Page(HTMLParser):
    """The elements of a page, their attributes and their texts, as an HTML parser sees them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.text = ""
        self.inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.inside, []).append(data)
        self.text += data

    def meta(self, name: str) -> str | None:
        [content] = [
            attributes["content"]
            for tag, attributes in self.elements
            if tag == "meta" and name in (attributes.get("name"), attributes.get("http-equiv"))
        ]
        return content

    @property
    def data(self) -> Any:
        return json.loads(self.texts["script"][0])


def pieces(text: str, *entities: Entity) -> Any:
    return Page(render([(document(*entities), text)])).data["documents"][0]["pieces"]


def marked(piece: Any) -> str:
    return "".join(segment for segment, _ in piece["segments"])


# --- Marks ----------------------------------------------------------------------------------------


def test_a_document_has_its_key_and_the_version_of_its_model() -> None:
    [row] = Page(render([(document(), "")])).data["documents"]

    assert (row["key"], row["model"]) == (document().input_key, "1.0.0")


@pytest.mark.parametrize("text", ["", "Marsh\r\n", "Jose\u0301 \U0001f600"])
def test_a_document_has_the_hash_of_its_note(text: str) -> None:
    [row] = Page(render([(document(), text)])).data["documents"]

    assert row["sha256"] == sha256(text.encode("utf-8")).hexdigest()


def test_the_types_of_new_marks_are_the_known_ones_and_those_that_were_found() -> None:
    found = document(entity("Marsh 7", 0, 5, "PLATE"), entity("Marsh 7", 6, 7, "AGE", id_=1))

    assert Page(render([(found, "Marsh 7")])).data["types"] == [*EntityType, "PLATE"]


def test_a_found_type_that_decisions_cannot_contain_is_not_a_type_of_new_marks() -> None:
    found = document(entity("Marsh", 0, 5, "licence plate"))

    assert Page(render([(found, "Marsh")])).data["types"] == [*EntityType]


def test_the_heading_has_a_default() -> None:
    assert Page(render([])).texts["title"] == ["PHI review"]
    assert Page(render([], title="Ward 7")).texts["title"] == ["Ward 7"]


@pytest.mark.parametrize(
    ("text", "begin", "end", "before", "inside"),
    [
        pytest.param("Pt: Marsh, seen", 4, 9, "Pt: ", "Marsh", id="ASCII"),
        pytest.param("\U0001d4dew, Marsh", 4, 9, "\U0001d4dew, ", "Marsh", id="astral before"),
        pytest.param("a \U0001f600\U0001f600 b", 2, 4, "a ", "\U0001f600" * 2, id="astral inside"),
        pytest.param("Pt\r\nMarsh\r\n", 4, 9, "Pt\r\n", "Marsh", id="CRLF before"),
        pytest.param("Otto\r\nMarsh", 0, 11, "", "Otto\r\nMarsh", id="across a line end"),
        pytest.param("Jose\u0301 Marsh", 0, 4, "", "Jose", id="combining mark left over"),
        pytest.param("\ufeffMarsh\x00", 1, 6, "\ufeff", "Marsh", id="byte order mark, NUL"),
    ],
)
def test_a_mark_is_where_the_entity_is(
    text: str, begin: int, end: int, before: str, inside: str
) -> None:
    first, mark, last = pieces(text, entity(text, begin, end))

    assert (first, marked(mark), last) == (before, inside, text[end:])


def test_a_text_without_entities_is_one_piece() -> None:
    assert pieces("No PHI.\r\n") == ["No PHI.\r\n"]


def test_a_mark_has_the_id_the_type_and_the_score_of_its_entity() -> None:
    _, mark, _ = pieces("Marsh", entity("Marsh", 0, 5, "NAME", score=0.25))

    assert mark["entities"] == [{"id": 0, "type": "NAME", "score": 0.25}]


LETTERS = "abcdefgh"


@pytest.mark.parametrize(
    ("spans", "types", "segments"),
    [
        pytest.param(
            [(1, 4, "X"), (3, 5, "Y")],
            ["X", "Y"],
            [["bc", 0], ["d", 1], ["e", 1]],
            id="overlapping",
        ),
        pytest.param(
            [(1, 6, "X"), (2, 4, "Y")],
            ["X", "Y"],
            [["b", 0], ["cd", 1], ["ef", 0]],
            id="nested",
        ),
        pytest.param([(1, 4, "X"), (1, 4, "Y")], ["X", "Y"], [["bcd", 1]], id="one span"),
    ],
)
def test_entities_that_overlap_share_a_mark_and_each_segment_names_the_innermost(
    spans: list[tuple[int, int, str]], types: list[str], segments: list[Any]
) -> None:
    _, mark, _ = pieces(LETTERS, *(entity(LETTERS, *span, id_=n) for n, span in enumerate(spans)))

    assert [found["type"] for found in mark["entities"]] == types
    assert mark["segments"] == segments


def test_entities_that_touch_get_separate_marks() -> None:
    got = pieces(LETTERS, entity(LETTERS, 3, 5, "Y"), entity(LETTERS, 1, 3, "X", id_=1))

    assert [piece if isinstance(piece, str) else marked(piece) for piece in got] == [
        *("a", "bc", "", "de", "fgh")
    ]


@given(st.data())
def test_the_pieces_of_a_note_are_the_note(data: st.DataObject) -> None:
    text = data.draw(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
    edges = st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))
    spans = data.draw(st.lists(edges.map(sorted).filter(lambda span: span[0] < span[1])))
    entities = [entity(text, begin, end, id_=n) for n, (begin, end) in enumerate(spans)]

    got = pieces(text, *entities)

    assert "".join(piece if isinstance(piece, str) else marked(piece) for piece in got) == text
    assert sum(len(mark["entities"]) for mark in got[1::2]) == len(entities)


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.5, 2.0])
def test_an_invalid_score_counts_as_1_so_that_no_filter_hides_the_entity(
    score: float,
) -> None:
    _, mark, _ = pieces("Marsh", entity("Marsh", 0, 5, score=score))

    assert mark["entities"][0]["score"] == 1


# --- Texts that do not match their entities -------------------------------------------------------


def refusal() -> RedactionError:
    text = f"Patient: {CANARY}"
    other = msgspec.structs.replace(entity(text, 9, 27), begin_offset=8)
    with pytest.raises(RedactionError) as caught:
        render([(document(other, key="notes/b.txt"), text)])
    return caught.value


def test_an_entity_that_does_not_match_its_text_is_an_error() -> None:
    assert str(refusal()).startswith(
        "notes/b.txt: Entity 0 at offsets 8 to 27 does not match the text at these offsets."
        " No page was made."
    )


def test_the_error_about_a_wrong_entity_contains_no_text() -> None:
    error = refusal()

    assert CANARY not in repr(error)
    assert error.__cause__ is error.__context__ is None


def test_two_entities_with_one_id_are_an_error_because_decisions_name_ids() -> None:
    text = f"{CANARY}, {CANARY}"
    with pytest.raises(RedactionError) as caught:
        render([(document(entity(text, 0, 18), entity(text, 20, 38)), text)])

    assert str(caught.value) == ("notes/a.txt: Two entities have the same id. No page was made.")


def test_two_documents_with_one_key_are_an_error_because_decisions_name_keys() -> None:
    with pytest.raises(RequestValidationError) as caught:
        render([(document(key=CANARY), ""), (document(key=CANARY), "")])

    assert str(caught.value).startswith("render.documents (pairs) must contain each key once")
    assert CANARY not in str(caught.value)


# --- Wrong arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"documents": 5550142}, "documents", "must be an Iterable, not int"),
        ({"documents": [(CANARY, CANARY)]}, "documents", "must be a Document, not str"),
        ({"documents": [(document(), CANARY.encode())]}, "documents", "must be a str, not bytes"),
        ({"title": CANARY.encode()}, "title", "must be a str, not bytes"),
        ({"title": None}, "title", "must be a str, not NoneType"),
        ({"title": f"{CANARY}\ud800"}, "title", "must be text that UTF-8 can encode"),
        ({"unprocessed": 5550142}, "unprocessed", "must be an Iterable, not int"),
        ({"failed": [CANARY]}, "failed", "must be a Mapping, not list"),
    ],
)
def test_a_wrong_argument_is_refused_and_not_quoted(
    options: dict[str, Any], field: str, words: str
) -> None:
    arguments: dict[str, Any] = {"documents": [], **options}
    with pytest.raises(RequestValidationError) as caught:
        render(**arguments)

    assert (caught.value.owner, caught.value.field) == ("render", field)
    assert caught.value.reason.startswith(words)
    assert CANARY not in str(caught.value)
    assert "5550142" not in str(caught.value)


# --- Around the notes -----------------------------------------------------------------------------


def test_the_documents_may_come_from_a_generator_and_keep_their_order() -> None:
    keys = ["b", "a", "c"]
    page = Page(render((document(key=key), "") for key in keys))

    assert [row["key"] for row in page.data["documents"]] == keys


def test_the_page_counts_documents_and_entities() -> None:
    found = document(entity("Marsh 7", 0, 5), entity("Marsh 7", 6, 7, "AGE", id_=1))

    assert (
        "2 documents, 2 entities"
        in Page(render([(found, "Marsh 7"), (document(key="b"), "")])).text
    )
    assert "0 documents, 0 entities" in Page(render([])).text


def test_types_are_in_the_order_of_their_frequency() -> None:
    text = "Marsh, Otto, 7"
    found = document(
        entity(text, 13, 14, "AGE"), entity(text, 0, 5, id_=1), entity(text, 7, 11, id_=2)
    )
    buttons = [
        attributes["data-type"]
        for tag, attributes in Page(render([(found, text)])).elements
        if tag == "button" and "data-type" in attributes
    ]

    assert buttons == ["NAME", "AGE"]


def test_the_title_is_the_heading() -> None:
    page = Page(render([], title="February & March"))

    assert page.texts["title"][0] == page.texts["h1"][0] == "February & March"


def test_the_page_says_that_it_contains_phi() -> None:
    assert (
        "Protected health information. This file contains the complete notes."
        in Page(render([])).text
    )


def test_files_that_were_not_processed_are_listed_with_code_and_reason() -> None:
    page = Page(
        render(
            [],
            unprocessed=[
                UnprocessedFile(
                    input_key="notes/large.txt",
                    error_code="TEXT_SIZE_LIMIT_EXCEEDED",
                    error_message="Too large.",
                ),
                UnprocessedFile(input_key="notes/old.txt", error_code=None, error_message=None),
            ],
        )
    )

    assert "2 files were not processed." in page.text
    words = " ".join(page.text.split())
    assert {"notes/large.txt", "notes/old.txt"} <= set(page.texts["span"])
    assert page.texts["code"] == ["TEXT_SIZE_LIMIT_EXCEEDED", "no code"]
    assert "Too large." in words
    assert "The service gave no reason." in words


def test_a_page_about_processed_files_lists_no_others() -> None:
    assert "details" not in {tag for tag, _ in Page(render([])).elements}


def test_notes_that_cannot_be_shown_are_listed_with_their_reasons() -> None:
    page = Page(render([], failed={"notes/a.txt": "gone", "notes/b.txt": "denied"}))

    assert "2 notes cannot be shown. The job processed them, but they are not on" in page.text
    assert page.texts["span"][-4:] == ["notes/a.txt", "gone", "notes/b.txt", "denied"]


def test_notes_that_fail_while_the_page_is_made_are_listed() -> None:
    failed: dict[str, str] = {}

    def documents() -> Iterator[tuple[Document, str]]:
        yield document(), ""
        failed["notes/b.txt"] = "gone"

    page = Page(render(documents(), failed=failed))

    assert "1 note cannot be shown." in page.text
    assert [row["key"] for row in page.data["documents"]] == ["notes/a.txt"]


# --- Nothing runs, nothing leaves -----------------------------------------------------------------


def hostile() -> str:
    return render(
        [(document(entity(CODE, 0, 8, CODE), key=CODE), CODE)],
        title=CODE,
        unprocessed=[UnprocessedFile(input_key=CODE, error_code=CODE, error_message=CODE)],
        failed={CODE: CODE},
    )


def test_markup_in_notes_keys_types_titles_and_reasons_adds_no_element() -> None:
    text = "x" * len(CODE)
    harmless = render(
        [(document(entity(text, 0, 8)), text)],
        title="x",
        unprocessed=[UnprocessedFile(input_key="x", error_code="x", error_message="x")],
        failed={"x": "x"},
    )

    assert [tag for tag, _ in Page(hostile()).elements] == [
        tag for tag, _ in Page(harmless).elements
    ]


def test_markup_is_shown_as_text() -> None:
    page = Page(hostile())

    assert page.texts["title"][0] == page.texts["h1"][0] == CODE
    assert page.data["documents"][0]["key"] == CODE
    assert (
        "".join(p if isinstance(p, str) else marked(p) for p in page.data["documents"][0]["pieces"])
        == CODE
    )
    assert page.texts["span"].count(CODE) == 5  # the type, two keys and two reasons


@pytest.mark.parametrize("character", ["<", ">", "&", "\u2028", "\u2029"])
def test_the_embedded_data_has_no_special_characters_of_html_or_scripts(
    character: str,
) -> None:
    _, _, data = hostile().partition('<script type="application/json" id="data">')

    assert character not in data.partition("</script>")[0]


def test_the_policy_allows_the_style_and_the_script_of_the_page_and_nothing_else() -> None:
    page = Page(render([]))

    def source(content: str) -> str:
        return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"

    assert dict(
        directive.strip().split(" ", 1)
        for directive in (page.meta("Content-Security-Policy") or "").split(";")
    ) == {
        "default-src": "'none'",
        "style-src": source(page.texts["style"][0]),
        "script-src": source(page.texts["script"][1]),
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def test_the_policy_comes_before_everything_that_it_restricts() -> None:
    tags = [
        (tag, attributes.get("http-equiv"))
        for tag, attributes in Page(render([])).elements
        if "charset" not in attributes
    ]

    assert tags[:3] == [("html", None), ("head", None), ("meta", "Content-Security-Policy")]


def test_the_page_has_no_references() -> None:
    page = render([])

    assert not re.search(r"://|\burl\(|@import|\bimport\(", page)
    assert not {"link", "img", "iframe", "object", "a", "form"} & {
        tag for tag, _ in Page(page).elements
    }
    assert not {"src", "href", "srcset", "action", "style"} & {
        name for _, attributes in Page(page).elements for name in attributes
    }


def test_the_page_is_neither_indexed_nor_translated_and_sends_no_referrer() -> None:
    page = Page(render([]))

    assert page.meta("referrer") == "no-referrer"
    assert page.meta("robots") == "noindex, nofollow, noarchive"
    assert page.meta("google") == "notranslate"
    assert page.elements[0] == ("html", {"lang": "en", "translate": "no"})


# --- Colors ---------------------------------------------------------------------------------------


def colors(theme: str) -> dict[str, str]:
    """Return the variables of a theme. The dark theme inherits those of the light one."""
    light, dark = re.findall(r"^ *:root[^{]*\{(.*?)^ *\}", CSS, re.MULTILINE | re.DOTALL)
    declarations = light if theme == "light" else light + dark
    return dict(re.findall(r"--([\w-]+): ([^;]+);", declarations))


def rgb(color: str) -> tuple[float, ...]:
    if color.startswith("#"):
        return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))
    return tuple(map(float, color.split()))


def mixed(over: tuple[float, ...], under: tuple[float, ...], share: float) -> tuple[float, ...]:
    return tuple(share * o + (1 - share) * u for o, u in zip(over, under, strict=True))


def luminance(color: tuple[float, ...]) -> float:
    parts = [
        c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


HUES = [
    *("indigo", "cyan", "teal", "green", "olive", "sand", "rose", "wine", "purple", "orange"),
    *("brown", "gray"),
]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_requires_in_both_themes(theme: str) -> None:
    of = {name: value for name, value in colors(theme).items() if name != "tint"}
    pairs = {
        f"{text} on {ground}": contrast(rgb(of[text]), rgb(of[ground]))
        for text in ("text", "quiet")
        for ground in ("ground", "sheet", "raised", "selected")
    }
    pairs["warning"] = contrast(rgb(of["warning-text"]), rgb(of["warning"]))
    pairs["selected text, and what to save"] = contrast(rgb(of["sheet"]), rgb(of["focus"]))
    pairs["banner"] = contrast(rgb(of["banner-text"]), rgb(of["banner"]))

    assert {name: ratio for name, ratio in pairs.items() if ratio < 4.5} == {}


@pytest.mark.parametrize("hue", HUES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_marks_and_their_lines_have_enough_contrast_in_both_themes(theme: str, hue: str) -> None:
    of = colors(theme)
    sheet = rgb(of["sheet"])
    tape = mixed(rgb(of[hue]), mixed(rgb(of[hue]), sheet, float(of["tint"])), float(of["tint"]))

    assert contrast(rgb(of["text"]), tape) >= 4.5
    assert contrast(rgb(of["quiet"]), mixed(rgb(of[hue]), sheet, float(of["tint"]))) >= 4.5
    assert contrast(rgb(of[hue]), sheet) >= 3


def test_each_type_has_its_own_color_and_line() -> None:
    styles = dict(re.findall(r'^\[data-type="(\w+)"\] \{ (.*?) \}', CSS, re.MULTILINE))
    hues = {style.partition(";")[0] for style in styles.values()}
    lines = {style.partition(";")[2] for style in styles.values()}

    assert set(styles) == set(EntityType)
    assert len(hues) == len(lines) == len(EntityType)


# --- The module -----------------------------------------------------------------------------------


def test_the_names_of_the_module_include_the_one_that_is_imported_late() -> None:
    assert set(review.__all__) <= set(dir(review))


# --- Without jinja2 -------------------------------------------------------------------------------


def test_without_jinja2_the_error_names_the_module_and_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "comprehend_phi.review.page")

    with pytest.raises(ImportError) as caught:
        _ = review.render

    assert str(caught.value) == (
        "the review page needs the module jinja2, which the extra `cli` of comprehend_phi installs"
    )
    assert caught.value.name == "jinja2"
