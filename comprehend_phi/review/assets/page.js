"use strict";

// The text of a mark is in the document only while it is revealed. Otherwise it is absent, not
// hidden by a style, so search, selection, screen readers and print cannot find it.

(() => {
  const byId = (id) => document.getElementById(id);

  const source = byId("data");
  const { types, documents } = JSON.parse(source.textContent);
  source.remove();

  const notes = documents.map(readNote);
  const history = new History(notes.length);
  const sheet = byId("note");
  const shownNote = new ShownNote(sheet);

  const hiddenTypes = new Set();
  let minimum = 0;
  let listed = [...notes.keys()]; // indices of the documents that match the search
  let open = -1; // index of the open document
  let spots = []; // its spots
  let current = -1; // index of the current spot
  let revealed = new Set(); // names of the revealed spots

  const passes = (entity) => !hiddenTypes.has(entity.type) && entity.score >= minimum;
  const isShown = (spot) => spot.isRejected || entitiesOf(spot).some(passes);
  const shownSpots = () => [...spots.keys()].filter((index) => isShown(spots[index]));
  const maskable = () => shownSpots().filter((index) => !spots[index].isRejected);
  // The name has both ends, so that a spot that grows is masked again.
  const nameOf = ({ begin, end }) => `${begin}-${end}`;
  const isRevealed = (spot) => spot.isRejected || revealed.has(nameOf(spot));

  // Truncate, do not round: 0.999 does not pass a minimum of 1.00, so it must not appear as 1.00.
  const twoDigits = (score) => score.toFixed(12).slice(0, 4);
  const plural = (count, one, many) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
  const typesOf = (spot) => [...new Set(entitiesOf(spot).map(({ type }) => type))].join(" + ");

  function create(tag, className, text = "") {
    const element = document.createElement(tag);
    element.className = className;
    element.textContent = text;
    return element;
  }

  function tally(values) {
    const counts = new Map();
    for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
    return [...counts].sort((one, other) => other[1] - one[1]);
  }

  // --- The note ---------------------------------------------------------------------------------

  function openDocument(index) {
    open = index;
    current = -1;
    revealed = new Set();
    showNote();
    sheet.scrollTop = 0;
    const { key, model, marks, total } = notes[index];
    byId("key").textContent = key;
    const counts = tally(marks.flatMap(({ entities }) => entities.map(({ type }) => type))).map(
      ([type, count]) => `${count}\u00a0${type}`,
    );
    if (total === 0) counts.push("Nothing was found in this document");
    if (model !== null) counts.push(`model ${model}`);
    byId("counts").textContent = counts.join(" \u00b7 ");
    report("");
    showMatches();
    showReviewed();
    showList(true);
  }

  // Show the open note with the current decisions. The spot at the same place stays the current one.
  function showNote() {
    const hadFocus = sheet.contains(document.activeElement);
    const { scrollTop } = sheet;
    const place = spots[current]?.begin;
    const { text } = notes[open];
    spots = spotsOf(notes[open], history.decisions[open]);
    const pieces = [];
    let position = 0;
    for (const [index, spot] of spots.entries()) {
      if (position < spot.begin) pieces.push(createText(position, spot.begin));
      pieces.push(spot.isRejected ? createRejected(index) : createMark(index));
      position = spot.end;
    }
    if (position < text.length) pieces.push(createText(position, text.length));
    shownNote.show(pieces);
    sheet.scrollTop = scrollTop;
    spots.forEach((_, index) => showSpot(index));
    current = spots.findIndex(({ begin, end }) => begin <= place && place < end);
    if (current >= 0) select(current, hadFocus);
    else if (hadFocus) sheet.focus({ preventScroll: true });
    showCurrent();
  }

  function createText(begin, end) {
    const node = document.createTextNode(notes[open].text.slice(begin, end));
    return { node, begin, end, isMasked: false };
  }

  function createMark(index) {
    const element = create("mark", "mark");
    element.setAttribute("role", "button");
    return createSpot(index, element);
  }

  function createRejected(index) {
    const element = create(
      "span",
      "rejected",
      notes[open].text.slice(spots[index].begin, spots[index].end),
    );
    element.setAttribute("role", "group");
    return createSpot(index, element);
  }

  function createSpot(index, element) {
    const { begin, end } = spots[index];
    element.tabIndex = 0;
    element.dataset.index = index;
    spots[index].piece = { node: element, begin, end, isMasked: true };
    return spots[index].piece;
  }

  function showSpot(index) {
    const spot = spots[index];
    const { node: element } = spot.piece;
    const types = typesOf(spot);
    const isOpen = isRevealed(spot);
    spot.piece.isMasked = !isOpen;
    byId("spoken").textContent = "";
    element.dataset.type = entitiesOf(spot)[0].type;
    element.dataset.label = types;
    element.title = spot.marks.flatMap(describe).join("\n");
    if (spot.isRejected) {
      element.setAttribute("aria-label", `${types}, rejected`);
      return;
    }
    const isAdded = spot.marks.some((mark) => mark.isAdded);
    const parts = isOpen ? partsOf(spot, notes[open].text) : [];
    const text = parts.map((part) => part.text).join("");
    const name = isAdded ? `${types}, added` : types;
    element.classList.toggle("revealed", isOpen);
    element.classList.toggle("added", isAdded);
    element.classList.toggle("merged", parts.length > 1);
    element.classList.toggle("filtered", !isShown(spot));
    element.setAttribute("aria-pressed", isOpen);
    element.setAttribute("aria-label", isOpen ? `${name}: ${text}` : `${name}, masked`);
    if (parts.length > 1) {
      element.replaceChildren(
        ...parts.map((part) => {
          const child = create("span", "part", part.text);
          child.dataset.type = part.type;
          return child;
        }),
      );
    } else {
      element.replaceChildren(isOpen ? text : types);
    }
  }

  const describe = ({ isAdded, entities }) =>
    entities.map(({ type, score }) =>
      isAdded ? `${type}, added` : `${type}, score ${twoDigits(score)}`,
    );

  function showSpots() {
    spots.forEach((_, index) => showSpot(index));
    showCurrent();
  }

  function select(index, focus = true) {
    spots[current]?.piece.node.removeAttribute("aria-current");
    current = index;
    const element = spots[current]?.piece.node;
    element?.setAttribute("aria-current", "true");
    if (element && focus) {
      element.focus({ preventScroll: true });
      element.scrollIntoView({ block: "nearest" });
      shownNote.select(spots[current].begin);
    }
    showCurrent();
  }

  function step(by) {
    const shown = shownSpots();
    const caret = shownNote.caret ?? (by > 0 ? 0 : Infinity);
    const isAfter = (index) => (current < 0 ? spots[index].begin >= caret : index > current);
    const isBefore = (index) => (current < 0 ? spots[index].begin < caret : index < current);
    const next = by > 0 ? shown.find(isAfter) : shown.findLast(isBefore);
    if (next !== undefined) select(next);
  }

  function toggle(index) {
    const spot = spots[index];
    if (!spot || spot.isRejected) return;
    if (!revealed.delete(nameOf(spot))) revealed.add(nameOf(spot));
    showSpot(index);
    showCurrent();
  }

  function maskAll() {
    revealed.clear();
    byId("find").value = ""; // It may show a name.
    showSpots();
    showMatches();
  }

  function toggleAll() {
    const shown = maskable();
    if (shown.every((index) => isRevealed(spots[index]))) return maskAll();
    for (const index of shown) revealed.add(nameOf(spots[index]));
    showSpots();
  }

  function showCurrent() {
    const shown = shownSpots();
    const spot = spots[current];
    const position = shown.indexOf(current);
    const place = position < 0 ? "Filtered out" : `${position + 1} of ${shown.length}`;
    byId("current").replaceChildren();
    if (spot) {
      byId("current").append(create("span", "place", place));
      for (const { isAdded, entities } of spot.marks) {
        for (const entity of entities) {
          const type = create("span", "tag", entity.type);
          type.dataset.type = entity.type;
          byId("current").append(
            " ",
            type,
            isAdded ? " added " : ` score ${twoDigits(entity.score)} `,
          );
        }
      }
      if (spot.isRejected) byId("current").append("rejected");
    } else {
      byId("current").append(plural(shown.length, "entity", "entities"));
      if (shown.length < spots.length) byId("current").append(` of ${spots.length} shown`);
    }
    const isAllRevealed =
      maskable().length > 0 && maskable().every((index) => isRevealed(spots[index]));
    byId("reveal").firstChild.data = spot && isRevealed(spot) ? "Mask " : "Reveal ";
    byId("reveal").disabled = !spot || spot.isRejected;
    byId("reject").firstChild.data = spot?.isRejected ? "Restore " : "Reject ";
    byId("reject").disabled = !spot;
    byId("reveal-all").firstChild.data = isAllRevealed ? "Mask all " : "Reveal all ";
    byId("reveal-all").disabled = maskable().length === 0 && revealed.size === 0;
    byId("previous").disabled = byId("next").disabled = shown.length === 0;
  }

  sheet.addEventListener("click", (event) => {
    const element = event.target.closest("[data-index]");
    // A click that ends a selection does not mask the text again.
    if (!element || !getSelection().isCollapsed) return;
    select(Number(element.dataset.index), false);
    toggle(current);
  });
  sheet.addEventListener("focusin", (event) => {
    const index = event.target.dataset.index;
    if (index !== undefined && Number(index) !== current) select(Number(index), false);
  });
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("reveal").addEventListener("click", () => toggle(current));
  byId("reveal-all").addEventListener("click", toggleAll);

  // --- The caret --------------------------------------------------------------------------------

  const isMac = navigator.platform.startsWith("Mac");
  const MOVES = {
    ArrowLeft: { unit: "character", withControl: "word", direction: "left" },
    ArrowRight: { unit: "character", withControl: "word", direction: "right" },
    ArrowUp: { unit: "line", direction: "backward" },
    ArrowDown: { unit: "line", direction: "forward" },
    Home: { unit: "lineboundary", withControl: "note", direction: "backward" },
    End: { unit: "lineboundary", withControl: "note", direction: "forward" },
  };

  sheet.addEventListener("keydown", (event) => {
    const move = Object.hasOwn(MOVES, event.key) ? MOVES[event.key] : undefined;
    const control = isMac ? event.altKey : event.ctrlKey;
    const isOther = event.metaKey || (isMac ? event.ctrlKey : event.altKey);
    const unit = control ? move?.withControl : move?.unit;
    if (!unit || isOther) return;
    event.preventDefault();
    if (shownNote.caret === null) shownNote.select(spots[current]?.begin ?? 0);
    sheet.focus({ preventScroll: true });
    select(-1);
    byId("spoken").textContent = shownNote.moveCaret(move.direction, unit, event.shiftKey);
  });

  // --- Find in the note -------------------------------------------------------------------------

  // Return where the visible text contains what the reviewer looks for.
  function matches() {
    const wanted = byId("find").value;
    if (!wanted || open < 0) return [];
    const literal = new RegExp(wanted.replace(/[\^$\\.*+?()[\]{}|/]/g, "\\$&"), "giu");
    const found = shownNote.visible(notes[open].text).matchAll(literal);
    return [...found].map((match) => ({ begin: match.index, end: match.index + match[0].length }));
  }

  function showMatches(place = -1) {
    const count = matches().length;
    const text = place < 0 ? `${count.toLocaleString("en")} found` : `${place + 1} of ${count}`;
    byId("matches").textContent = byId("find").value ? text : "";
    byId("find-previous").disabled = byId("find-next").disabled = count === 0;
  }

  // Select the next match after the selection or the caret, or the first one if there is none.
  function stepMatch(by) {
    const found = matches();
    if (found.length === 0) return showMatches();
    const selected = shownNote.selected;
    const caret = selected?.begin ?? shownNote.caret ?? 0;
    const isAfter = ({ begin }) => (selected ? begin > caret : begin >= caret);
    const isBefore = ({ begin }) => begin < caret;
    const place = by > 0 ? found.findIndex(isAfter) : found.findLastIndex(isBefore);
    const next = place < 0 ? (by > 0 ? 0 : found.length - 1) : place;
    sheet.focus({ preventScroll: true });
    select(-1);
    shownNote.select(found[next].begin, found[next].end);
    shownNote.scrollToCaret();
    showMatches(next);
  }

  byId("find").addEventListener("input", () => showMatches());
  byId("find-previous").addEventListener("click", () => stepMatch(-1));
  byId("find-next").addEventListener("click", () => stepMatch(1));

  // --- Decisions --------------------------------------------------------------------------------

  function decide(name, decision) {
    if (open < 0) return;
    showStep(name, history.take(name, new Map([[open, decision]])));
  }

  function toggleRejected() {
    const spot = spots[current];
    if (!spot) return;
    const change = spot.isRejected ? withRestored : withRejected;
    const name = spot.isRejected ? "Restored" : "Rejected";
    decide(`${name} ${typesOf(spot)}`, change(history.decisions[open], spot));
  }

  function toggleReviewed() {
    if (open < 0) return;
    const reviewed = !history.decisions[open].reviewed;
    decide(reviewed ? "Reviewed" : "Not reviewed", withReviewed(history.decisions[open], reviewed));
  }

  function undo() {
    if (!history.canUndo) return;
    const step = history.undo();
    showStep(`Undone: ${step.name}`, step);
  }

  function redo() {
    if (!history.canRedo) return;
    const step = history.redo();
    showStep(`Redone: ${step.name}`, step);
  }

  // Show what a step changed. If it did not change the open note, open the first one that it changed.
  function showStep(message, { indices }) {
    if (indices.includes(open)) showNote();
    else openDocument(indices[0]);
    showReviewed();
    showMatches();
    showList();
    report(message);
  }

  // Say what happened, or what went wrong.
  function report(message, problem = "") {
    byId("message").textContent = message;
    byId("problem").textContent = problem;
  }

  function showReviewed() {
    const isReviewed = open >= 0 && history.decisions[open].reviewed;
    const count = history.decisions.filter(({ reviewed }) => reviewed).length;
    const total = notes.length.toLocaleString("en");
    byId("reviewed").setAttribute("aria-pressed", isReviewed);
    byId("reviewed").disabled = open < 0;
    byId("reviewed-count").textContent = `${count.toLocaleString("en")} of ${total} reviewed`;
    byId("progress").max = notes.length || 1;
    byId("progress").value = count;
    byId("undo").disabled = !history.canUndo;
    byId("redo").disabled = !history.canRedo;
    byId("save").disabled = !history.decisions.some(isDecided) && history.isSaved;
    byId("save").classList.toggle("unsaved", !history.isSaved);
  }

  function stepUnreviewed() {
    const isNext = (index) => !history.decisions[index].reviewed;
    const place = listed.indexOf(open) + 1;
    const next = [...listed.slice(place), ...listed.slice(0, place)].find(isNext);
    if (next !== undefined && next !== open) keepFocus(() => openDocument(next));
  }

  byId("reject").addEventListener("click", toggleRejected);
  byId("reviewed").addEventListener("click", toggleReviewed);
  byId("undo").addEventListener("click", undo);
  byId("redo").addEventListener("click", redo);

  // --- New marks --------------------------------------------------------------------------------

  const chooser = byId("chooser");
  let rangeToAdd = null;
  let [lastType] = types;

  function chooseType() {
    if (open < 0) return;
    const selected = shownNote.selected;
    const { text } = notes[open];
    rangeToAdd = selected && rangeToMark(text, spots, selected.begin, selected.end);
    if (rangeToAdd) {
      chooser.showModal();
      choices[types.indexOf(lastType)].focus();
    } else {
      report("Select text in the note first");
    }
  }

  function addMark(type) {
    chooser.close();
    lastType = type;
    const { begin, end } = rangeToAdd;
    const decision = withAdded(history.decisions[open], addedMark(begin, end, type));
    sheet.focus({ preventScroll: true });
    decide(`Added ${type}`, decision);
    select(spots.findIndex((spot) => spot.begin <= begin && end <= spot.end));
  }

  const choices = types.map((type, index) => {
    const button = create("button", "choice");
    button.type = "button";
    const sample = create("span", "sample");
    sample.dataset.type = type;
    button.append(sample, create("span", "", type));
    if (index < 9) button.append(create("kbd", "", index + 1));
    button.addEventListener("click", () => addMark(type));
    return button;
  });
  byId("choices").append(...choices);

  chooser.addEventListener("keydown", (event) => {
    event.stopPropagation(); // A digit must not also be a shortcut of the page.
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const place = choices.indexOf(document.activeElement);
    const type = types["123456789".indexOf(event.key)];
    if (!by && !type) return;
    event.preventDefault();
    if (by) choices.at((place + by) % choices.length).focus();
    else addMark(type);
  });
  byId("add").addEventListener("mousedown", (event) => event.preventDefault()); // Keep the selection.
  byId("add").addEventListener("click", chooseType);

  // --- Save and load ----------------------------------------------------------------------------

  // The name says when, so that the newest of several files is easy to find.
  function fileName() {
    const now = new Date();
    const local = new Date(now - now.getTimezoneOffset() * 60_000).toISOString();
    return `decisions-${local.slice(0, 19).replace(/[-:]/g, "").replace("T", "-")}.json`;
  }

  function save() {
    if (byId("save").disabled) return;
    const file = new Blob([toFile(notes, history.decisions)], { type: "application/json" });
    const link = create("a", "");
    link.href = URL.createObjectURL(file);
    link.download = fileName();
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // The download may begin late.
    history.save();
    showReviewed();
    report(`Saved as ${link.download}`);
  }

  async function load(file) {
    let loaded;
    try {
      loaded = fromFile(await file.text(), notes, types);
    } catch (error) {
      const reason = error instanceof Unusable ? error.message : "The file cannot be read.";
      report("", `Nothing was loaded. ${reason}`);
      return;
    }
    const wasEmpty = !history.decisions.some(isDecided);
    const replaced = [...loaded.keys()].filter((index) => isDecided(history.decisions[index]));
    const count = plural(loaded.size, "document", "documents");
    if (loaded.size > 0) showStep("", history.take(`Loaded decisions about ${count}`, loaded));
    if (wasEmpty) history.save();
    showReviewed();
    const again = plural(replaced.length, "document", "documents");
    report(`Loaded decisions about ${count}, and replaced earlier ones about ${again}`);
  }

  byId("save").addEventListener("click", save);
  byId("load").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", () => {
    const [file] = byId("file").files;
    byId("file").value = ""; // The same file can be loaded again.
    if (file) load(file);
  });
  addEventListener("beforeunload", (event) => {
    if (!history.isSaved) event.preventDefault();
  });

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
    const { key, total, marks } = notes[index];
    const isFiltered = total > 0 && (hiddenTypes.size > 0 || minimum > 0);
    const passing = isFiltered
      ? marks.flatMap((mark) => mark.entities.filter(passes)).length
      : total;
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
    if (isDecided(history.decisions[index])) row.append(createState(history.decisions[index]));
    return row;
  }

  function createState({ reviewed, rejected, added }) {
    const state = create("span", "state");
    const signs = [
      reviewed && "\u2713",
      rejected.size && `\u2212${rejected.size}`,
      added.length && `+${added.length}`,
    ];
    const words = [
      reviewed && "reviewed",
      rejected.size && `${rejected.size} rejected`,
      added.length && `${added.length} added`,
    ];
    const visible = create("span", "", signs.filter(Boolean).join(" "));
    visible.setAttribute("aria-hidden", "true");
    state.append(visible, create("span", "unseen", words.filter(Boolean).join(", ")));
    return state;
  }

  function search() {
    const wanted = byId("search").value.trim().toLowerCase();
    listed = [...notes.keys()].filter((index) => notes[index].key.toLowerCase().includes(wanted));
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

  // If something in the old note had the focus, focus the new note.
  function keepFocus(change) {
    const isLost = sheet.contains(document.activeElement);
    change();
    if (isLost) sheet.focus({ preventScroll: true });
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
    showSpots();
    showMatches();
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
    n: () => keepFocus(() => stepDocument(1)),
    p: () => keepFocus(() => stepDocument(-1)),
    x: toggleRejected,
    m: chooseType,
    v: toggleReviewed,
    w: stepUnreviewed,
    u: undo,
    U: redo,
    s: save,
    o: () => byId("file").click(),
    f: () => byId("find").select(),
    g: () => stepMatch(1),
    G: () => stepMatch(-1),
    t: toggleTheme,
    "/": () => byId("search").select(),
    "?": showHelp,
    0: clearFilters,
  };

  const own = (table, key) => (Object.hasOwn(table, key) ? table[key] : undefined);

  // With Ctrl, or with Cmd on a Mac. Saving the page itself would only copy the notes.
  const controlKeys = { s: save, z: undo, Z: redo, y: redo };

  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.isComposing) return;
    if (help.open && event.key !== "?") return;
    const { target } = event;
    const isTyping = target === byId("search") || target === byId("find");
    let action;
    if (event.ctrlKey || event.metaKey) {
      action = isTyping && event.key !== "s" ? undefined : own(controlKeys, event.key);
    } else if (event.key === "Escape") {
      maskAll();
      if (target === byId("search")) list.focus();
      if (target === byId("find")) sheet.focus();
    } else if (target === byId("find") && event.key === "Enter") {
      action = () => stepMatch(event.shiftKey ? -1 : 1);
    } else if (target.matches(".mark") && (event.key === "Enter" || event.key === " ")) {
      action = () => toggle(Number(target.dataset.index));
    } else if (!isTyping && byId("shortcuts").checked) {
      const chip = chips["123456789".indexOf(event.key)];
      action = chip ? () => toggleType(chip.dataset.type) : own(keys, event.key);
    }
    if (!action) return;
    event.preventDefault();
    action();
  });

  // --- Start ------------------------------------------------------------------------------------

  setTheme(prefersDark.matches);
  showReviewed();
  showMatches();
  if (notes.length > 0) {
    openDocument(0);
  } else {
    byId("key").textContent = "There are no documents";
    showCurrent();
  }
})();
