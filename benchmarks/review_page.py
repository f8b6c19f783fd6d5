"""How fast the review page is with 2,000 documents, compared with 20, in a headless Chromium.

Each note has about 3,500 characters and 20 entities. A step is the time from a key until the
browser has drawn the next frame. Needs Chromium with its chromedriver; `make browser` installs
both.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from selenium import webdriver

from comprehend_phi import Document, Entity
from comprehend_phi.review import render

FEW, MANY = 20, 2_000
ENTITIES = 20
ROUNDS = 15
STEPS = {
    "go to the next mark": "j",
    "reject it": "x",
    "undo": "u",
    "mark the document as reviewed": "v",
    "open the next document": "w",
}

TIME_A_KEY = """
const [key, done] = arguments;
const begin = performance.now();
document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
requestAnimationFrame(() => setTimeout(() => done(performance.now() - begin)));
"""


def note(number: int) -> tuple[Document, str]:
    """Return a document with its note."""
    filler = "seen in the clinic today, no complaints, plan unchanged; " * 3
    pieces: list[str] = []
    entities: list[Entity] = []
    position = 0
    for index in range(ENTITIES):
        name = f"Ottoline Marsh {number}-{index}"
        entities.append(
            Entity(
                id=index,
                begin_offset=position,
                end_offset=position + len(name),
                score=0.99,
                text=name,
                category="PROTECTED_HEALTH_INFORMATION",
                type="NAME",
            )
        )
        pieces.extend((name, filler))
        position += len(name) + len(filler)
    document = Document(
        input_key=f"notes/{number:05}.txt",
        output_key=f"notes/{number:05}.txt.out",
        entities=tuple(entities),
        model_version="1.0.0",
    )
    return document, "".join(pieces)


def milliseconds(browser: Any, page: Path) -> dict[str, list[float]]:
    """Open the page several times, and return how long opening it and each step took."""
    taken: dict[str, list[float]] = {name: [] for name in ("open the page", *STEPS)}
    for _ in range(ROUNDS):
        browser.get(page.as_uri())
        loaded = "return performance.getEntriesByType('navigation')[0].loadEventEnd"
        taken["open the page"].append(browser.execute_script(loaded))
        for name, key in STEPS.items():
            taken[name].append(browser.execute_async_script(TIME_A_KEY, key))
    return taken


def main() -> None:
    """Measure and print the results."""
    driver = shutil.which("chromedriver")
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if not (driver and binary):
        raise SystemExit("This needs Chromium with its chromedriver: make browser")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    service = webdriver.ChromeService(executable_path=driver)
    with (
        webdriver.Chrome(options=options, service=service) as browser,
        TemporaryDirectory() as folder,
    ):
        pages = [Path(folder, f"{count}.html") for count in (FEW, MANY)]
        for page, count in zip(pages, (FEW, MANY), strict=True):
            page.write_text(render(map(note, range(count))), encoding="utf-8")
        few, many = (milliseconds(browser, page) for page in pages)
        size = pages[1].stat().st_size / 1e6
    print(f"Review page of {MANY:,} documents, {size:.1f} MB; medians of {ROUNDS} rounds\n")
    print(f"{'':32}{FEW:>9,}{MANY:>12,}")
    for name in few:
        print(f"{name:32}{median(few[name]):6.0f} ms{median(many[name]):9.0f} ms")


if __name__ == "__main__":
    main()
