"""A review page in a headless Chromium, for tests of how the page behaves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from comprehend_phi import Document, Entity
from comprehend_phi.review import render

from ..entities import entity


@pytest.fixture(scope="session")
def chromium() -> Iterator[webdriver.Chrome]:
    """Return a headless Chromium. `make browser` installs one from Debian's packages."""
    names = ("chromium", "chromium-browser", "google-chrome")
    binary = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("there is no Chromium with its chromedriver; `make browser` installs both")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--window-size=1280,900", "--no-first-run", "--disable-extensions"),
        *("--disable-background-networking", "--disable-component-update"),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    # With a path, selenium does not search for a driver on the network.
    browser = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(executable_path=driver)
    )
    yield browser
    browser.quit()


class Page:
    """A review page in the browser."""

    def __init__(self, browser: webdriver.Chrome, directory: Path) -> None:
        self.browser = browser
        self._file = directory / "review.html"

    def open(self, documents: Sequence[tuple[Document, str]], **options: Any) -> Page:
        self._file.write_text(render(documents, **options), encoding="utf-8")
        self.browser.get(self.url)
        return self

    @property
    def url(self) -> str:
        return self._file.as_uri()

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def press(self, *keys: str) -> None:
        webdriver.ActionChains(self.browser).send_keys(*keys).perform()

    def log(self, kind: str) -> list[str]:
        """Return the new entries of one of the browser's logs since the last call."""
        browser: Any = self.browser
        return [entry["message"] for entry in browser.get_log(kind)]

    def find(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def each(self, selector: str, expression: str) -> list[Any]:
        """Return the value of the expression for each of these elements, `it`."""
        elements = f"[...document.querySelectorAll({json.dumps(selector)})]"
        values: list[Any] = self.run(f"return {elements}.map((it) => {expression})")
        return values

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def text(self, selector: str) -> str:
        """Return the visible text of an element in one line."""
        return " ".join(self.find(selector).text.split())

    @property
    def note(self) -> str:
        """The text of the note in the document, with unchanged line endings."""
        return str(self.run("return document.getElementById('note').textContent"))

    @property
    def marks(self) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, ".mark")

    @property
    def mark_texts(self) -> list[str]:
        return self.each(".mark", "it.textContent")

    @property
    def filtered(self) -> list[bool]:
        """For each mark, whether the filters hide it."""
        return self.each(".mark", "it.classList.contains('filtered')")

    @property
    def rows(self) -> list[str]:
        """The texts of the rows of the list."""
        return self.each(".row", "[...it.children].map((part) => part.textContent).join(' ')")

    @property
    def current(self) -> int:
        """The index of the current mark, or -1."""
        marked = self.each(".mark", "it.getAttribute('aria-current') === 'true'")
        return marked.index(True) if any(marked) else -1

    @property
    def key(self) -> str:
        """The key of the open document."""
        return self.text("#key")

    def everything(self) -> str:
        """Return everything on the page that can be read, found, selected or heard."""
        self.browser.execute_cdp_cmd("Accessibility.enable", {})
        tree = self.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})
        shown = self.run(
            "getSelection().selectAllChildren(document.body);"
            "const selected = getSelection().toString();"
            "getSelection().removeAllRanges();"
            "return [document.body.innerText, document.documentElement.outerHTML, selected].join()"
        )
        return f"{shown}{json.dumps(tree, ensure_ascii=False)}"


@pytest.fixture
def page(chromium: webdriver.Chrome, tmp_path: Path) -> Page:
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    page = Page(chromium, tmp_path)
    errors(page)  # those of earlier tests
    return page


def found(
    text: str, *spans: tuple[str, str], key: str = "notes/a.txt", scores: Sequence[float] = ()
) -> tuple[Document, str]:
    """Return a document with an entity for each pair of text and type, and its note."""
    entities: list[Entity] = []
    for number, (piece, type_) in enumerate(spans):
        begin = text.index(piece)
        score = scores[number] if scores else 0.9
        entities.append(entity(text, begin, begin + len(piece), type_, id_=number, score=score))
    document = Document(
        input_key=key, output_key=f"{key}.out", entities=tuple(entities), model_version="1.0.0"
    )
    return document, text


NAME, PHONE, DATE = "Ottoline Marsh", "555-0142", "2031-02-03"
NOTE = found(
    f"Patient: {NAME}\nPhone: {PHONE}\nSeen: {DATE}\n",
    *((NAME, "NAME"), (PHONE, "PHONE_OR_FAX"), (DATE, "DATE")),
    scores=(0.99, 0.5, 0.75),
)
OTHER = found("Seen by Dr. Iris Example.", ("Iris Example", "NAME"), key="notes/b.txt")
EMPTY = found("Nothing here.", key="other/c.txt")


def errors(page: Page) -> list[str]:
    """Return the new errors in the browser's console since the last call."""
    return page.log("browser")


def requests(page: Page) -> set[str]:
    """Return the URLs that were requested since the last call."""
    messages = [json.loads(message)["message"] for message in page.log("performance")]
    return {
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }
