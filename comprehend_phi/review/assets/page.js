"use strict";

// The text of an entity is in the document only while it is revealed. Otherwise it is absent, not
// hidden by a style, so search, selection, screen readers and print cannot find it.

(() => {
  const byId = (id) => document.getElementById(id);

  const source = byId("data");
  const { documents } = JSON.parse(source.textContent);
  source.remove();

  for (const each of documents) {
    each.marks = each.pieces.filter((piece) => typeof piece !== "string");
    each.total = each.marks.reduce((sum, mark) => sum + mark.entities.length, 0);
  }

  const hiddenTypes = new Set();
  let minimum = 0;
  let listed = documents.map((_, index) => index); // indices of the documents that match the search
  let open = -1; // index of the open document
  let current = -1; // index of the current mark in it
  let revealed = new Set(); // indices of the revealed marks
  let elements = []; // the elements of the marks

  const passes = (entity) => !hiddenTypes.has(entity.type) && entity.score >= minimum;
  const isShown = (mark) => mark.entities.some(passes);
  const marks = () => (open < 0 ? [] : documents[open].marks);
  const shownMarks = () => [...marks().keys()].filter((index) => isShown(marks()[index]));

  // Truncate, do not round: 0.999 does not pass a minimum of 1.00, so it must not appear as 1.00.
  const twoDigits = (score) => score.toFixed(12).slice(0, 4);
  const plural = (count, one, many) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
  const typesOf = (mark) => [...new Set(mark.entities.map((entity) => entity.type))].join(" + ");

  function create(tag, className, text = "") {
    const element = document.createElement(tag);
    element.className = className;
    element.textContent = text;
    return element;
  }

  function tally(types) {
    const counts = new Map();
    for (const type of types) counts.set(type, (counts.get(type) ?? 0) + 1);
    return [...counts].sort((one, other) => other[1] - one[1]);
  }

  // --- The note ---------------------------------------------------------------------------------

  function openDocument(index) {
    open = index;
    current = -1;
    revealed = new Set();
    elements = [];
    const { key, model, pieces, total } = documents[index];
    const note = document.createDocumentFragment();
    for (const piece of pieces) {
      note.append(typeof piece === "string" ? piece : createMark(elements.length));
    }
    byId("note").replaceChildren(note);
    byId("note").scrollTop = 0;
    byId("key").textContent = key;
    const types = tally(marks().flatMap((mark) => mark.entities.map((entity) => entity.type)));
    const counts = types.map(([type, count]) => `${count}\u00a0${type}`);
    if (total === 0) counts.push("Nothing was found in this document");
    if (model !== null) counts.push(`model ${model}`);
    byId("counts").textContent = counts.join(" \u00b7 ");
    showCurrent();
    showList(true);
  }

  function createMark(index) {
    const element = create("mark", "mark");
    element.tabIndex = 0;
    element.dataset.index = index;
    element.setAttribute("role", "button");
    elements.push(element);
    showMark(index);
    return element;
  }

  function showMark(index) {
    const mark = marks()[index];
    const element = elements[index];
    const isRevealed = revealed.has(index);
    const types = typesOf(mark);
    const text = mark.segments.map(([segment]) => segment).join("");
    element.dataset.type = mark.entities[0].type;
    element.dataset.label = types;
    element.title = mark.entities
      .map((entity) => `${entity.type}, score ${twoDigits(entity.score)}`)
      .join("\n");
    element.classList.toggle("revealed", isRevealed);
    element.classList.toggle("merged", isRevealed && mark.entities.length > 1);
    element.classList.toggle("filtered", !isShown(mark));
    element.setAttribute("aria-pressed", isRevealed);
    element.setAttribute("aria-label", isRevealed ? `${types}: ${text}` : `${types}, masked`);
    if (!isRevealed) {
      element.replaceChildren(types);
    } else if (mark.entities.length === 1) {
      element.replaceChildren(text);
    } else {
      element.replaceChildren(
        ...mark.segments.map(([segment, entity]) => {
          const part = create("span", "part", segment);
          part.dataset.type = mark.entities[entity].type;
          return part;
        }),
      );
    }
  }

  function showMarks() {
    marks().forEach((_, index) => showMark(index));
    showCurrent();
  }

  function select(index, focus = true) {
    elements[current]?.removeAttribute("aria-current");
    current = index;
    elements[current]?.setAttribute("aria-current", "true");
    if (focus) {
      elements[current]?.focus({ preventScroll: true });
      elements[current]?.scrollIntoView({ block: "nearest" });
    }
    showCurrent();
  }

  function step(by) {
    const shown = shownMarks();
    const next =
      by > 0
        ? shown.find((index) => index > current)
        : shown.findLast((index) => index < current || current < 0);
    if (next !== undefined) select(next);
  }

  function toggle(index) {
    if (index < 0) return;
    if (!revealed.delete(index)) revealed.add(index);
    showMark(index);
    showCurrent();
  }

  function maskAll() {
    revealed.clear();
    showMarks();
  }

  function toggleAll() {
    const shown = shownMarks();
    if (shown.length === 0 || shown.every((index) => revealed.has(index))) return maskAll();
    shown.forEach((index) => revealed.add(index));
    showMarks();
  }

  function showCurrent() {
    const shown = shownMarks();
    const mark = marks()[current];
    const position = shown.indexOf(current);
    const place = position < 0 ? "Filtered out" : `${position + 1} of ${shown.length}`;
    byId("current").replaceChildren();
    if (mark) {
      byId("current").append(create("span", "place", place));
      for (const entity of mark.entities) {
        const type = create("span", "tag", entity.type);
        type.dataset.type = entity.type;
        byId("current").append(" ", type, ` score ${twoDigits(entity.score)} `);
      }
    } else {
      byId("current").append(plural(shown.length, "entity", "entities"));
      if (shown.length < marks().length) byId("current").append(` of ${marks().length} shown`);
    }
    const isAllRevealed = shown.length > 0 && shown.every((index) => revealed.has(index));
    byId("reveal").firstChild.data = revealed.has(current) ? "Mask " : "Reveal ";
    byId("reveal").disabled = !mark;
    byId("reveal-all").firstChild.data = isAllRevealed ? "Mask all " : "Reveal all ";
    byId("reveal-all").disabled = shown.length === 0 && revealed.size === 0;
    byId("previous").disabled = byId("next").disabled = shown.length === 0;
  }

  byId("note").addEventListener("click", (event) => {
    const element = event.target.closest(".mark");
    // A click that ends a selection does not mask the text again.
    if (!element || !getSelection().isCollapsed) return;
    select(Number(element.dataset.index), false);
    toggle(current);
  });
  byId("note").addEventListener("focusin", (event) => {
    const index = event.target.dataset.index;
    if (index !== undefined && Number(index) !== current) select(Number(index), false);
  });
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("reveal").addEventListener("click", () => toggle(current));
  byId("reveal-all").addEventListener("click", toggleAll);

  // --- The list: only the visible rows are in the document -----------------------------------------

  const list = byId("list");
  const SPARE = 8;
  const rowHeight = () => 3.25 * parseFloat(getComputedStyle(document.documentElement).fontSize);

  function showList(scroll = false) {
    const height = rowHeight();
    const place = listed.indexOf(open);
    if (scroll && place >= 0) {
      const [top, bottom] = [place * height, (place + 1) * height];
      byId("rows").style.height = `${listed.length * height}px`;
      if (top < list.scrollTop) list.scrollTop = top;
      if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight;
    }
    const first = Math.max(0, Math.floor(list.scrollTop / height) - SPARE);
    const last = Math.ceil((list.scrollTop + list.clientHeight) / height) + SPARE;
    byId("rows").style.height = `${listed.length * height}px`;
    byId("rows").replaceChildren(
      ...listed.slice(first, last).map((index, offset) => createRow(index, first + offset, height)),
    );
    if (place >= first && place < last) {
      list.setAttribute("aria-activedescendant", `row-${open}`);
    } else {
      list.removeAttribute("aria-activedescendant");
    }
  }

  function createRow(index, place, height) {
    const { key, total, marks } = documents[index];
    const isFiltered = total > 0 && (hiddenTypes.size > 0 || minimum > 0);
    const passing = isFiltered ? marks.flatMap((mark) => mark.entities.filter(passes)).length : total;
    const row = create("div", "row");
    row.id = `row-${index}`;
    row.dataset.index = index;
    row.title = key;
    row.style.top = `${place * height}px`;
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", index === open);
    row.setAttribute("aria-setsize", listed.length);
    row.setAttribute("aria-posinset", place + 1);
    const cut = key.lastIndexOf("/") + 1;
    const name = create("span", "file", key.slice(cut) || key);
    const folder = create("span", "folder", key.slice(0, cut));
    const count = create("span", "count", isFiltered ? `${passing} of ${total}` : total);
    count.append(create("span", "unseen", total === 1 ? " entity" : " entities"));
    row.classList.toggle("nothing", passing === 0);
    row.append(name, folder, count);
    return row;
  }

  function search() {
    const wanted = byId("search").value.trim().toLowerCase();
    listed = [...documents.keys()].filter((index) =>
      documents[index].key.toLowerCase().includes(wanted),
    );
    byId("found").textContent = wanted ? `${listed.length.toLocaleString("en")} found` : "";
    list.scrollTop = 0;
    showList(true);
  }

  function stepDocument(by) {
    if (listed.length === 0) return;
    const place = listed.indexOf(open);
    const next = Math.min(Math.max(place < 0 ? 0 : place + by, 0), listed.length - 1);
    if (listed[next] !== open) openDocument(listed[next]);
  }

  // If a mark of the old note had the focus, focus the new note.
  function stepFromNote(by) {
    const isLost = byId("note").contains(document.activeElement);
    stepDocument(by);
    if (isLost) byId("note").focus({ preventScroll: true });
  }

  list.addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (row) openDocument(Number(row.dataset.index));
  });
  list.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(list.clientHeight / rowHeight()) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page };
    const by = { ...steps, Home: -listed.length, End: listed.length }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    stepDocument(by);
  });
  list.addEventListener("scroll", () => showList(), { passive: true });
  new ResizeObserver(() => showList()).observe(list);
  byId("search").addEventListener("input", search);
  byId("previous-document").addEventListener("click", () => stepDocument(-1));
  byId("next-document").addEventListener("click", () => stepDocument(1));

  // --- The filters ------------------------------------------------------------------------------

  const chips = [...document.querySelectorAll(".chip")];

  function showFilters() {
    for (const chip of chips) {
      chip.setAttribute("aria-pressed", !hiddenTypes.has(chip.dataset.type));
    }
    byId("minimum").value = minimum;
    byId("minimum-shown").textContent = minimum.toFixed(2);
    byId("clear").disabled = hiddenTypes.size === 0 && minimum === 0;
    showMarks();
    showList();
  }

  function toggleType(type) {
    if (!hiddenTypes.delete(type)) hiddenTypes.add(type);
    showFilters();
  }

  function clearFilters() {
    hiddenTypes.clear();
    minimum = 0;
    showFilters();
  }

  for (const chip of chips) chip.addEventListener("click", () => toggleType(chip.dataset.type));
  byId("minimum").addEventListener("input", () => {
    minimum = Number(byId("minimum").value);
    showFilters();
  });
  byId("clear").addEventListener("click", clearFilters);

  // --- Light and dark ---------------------------------------------------------------------------

  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const theme = document.documentElement.dataset;

  function setTheme(isDark) {
    theme.theme = isDark ? "dark" : "light";
    byId("theme").textContent = isDark ? "Light" : "Dark";
  }

  const toggleTheme = () => setTheme(theme.theme !== "dark");
  prefersDark.addEventListener("change", () => setTheme(prefersDark.matches));
  byId("theme").addEventListener("click", toggleTheme);

  // --- The keyboard -----------------------------------------------------------------------------

  const help = byId("help");
  const showHelp = () => (help.open ? help.close() : help.showModal());
  byId("keys").addEventListener("click", showHelp);
  byId("close").addEventListener("click", showHelp);

  const keys = {
    j: () => step(1),
    k: () => step(-1),
    r: () => toggle(current),
    a: toggleAll,
    n: () => stepFromNote(1),
    p: () => stepFromNote(-1),
    t: toggleTheme,
    "/": () => byId("search").focus(),
    "?": showHelp,
    0: clearFilters,
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (help.open && event.key !== "?") return;
    const target = event.target;
    if (event.key === "Escape") {
      maskAll();
      if (target === byId("search")) list.focus();
    } else if (target.matches(".mark") && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      toggle(Number(target.dataset.index));
    } else if (target !== byId("search") && byId("shortcuts").checked) {
      const chip = chips["123456789".indexOf(event.key)];
      const action = chip ? () => toggleType(chip.dataset.type) : keys[event.key];
      if (!action || !(chip || Object.hasOwn(keys, event.key))) return;
      event.preventDefault();
      action();
    }
  });

  // --- Start ------------------------------------------------------------------------------------

  setTheme(prefersDark.matches);
  if (documents.length > 0) {
    openDocument(0);
  } else {
    byId("key").textContent = "There are no documents";
    showCurrent();
  }
})();
