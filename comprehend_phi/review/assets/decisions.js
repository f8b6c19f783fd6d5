"use strict";

// What a reviewer decides, and the file that saves it. Nothing here touches the document.
//
// Offsets count UTF-16 code units, as JavaScript does, except in the file: it counts code points,
// as Python does.

const UNDECIDED = Object.freeze({ reviewed: false, rejected: new Set(), added: [] });

// --- Notes and marks ------------------------------------------------------------------------------

const asText = (piece) =>
  typeof piece === "string" ? piece : piece.segments.map(([text]) => text).join("");

// Return a note with the offsets of its marks. `pieces` are strings and marks, as Python writes them.
function readNote({ key, sha256, model, pieces }) {
  const marks = [];
  let position = 0;
  for (const piece of pieces) {
    if (typeof piece === "string") {
      position += piece.length;
      continue;
    }
    const begin = position;
    const segments = piece.segments.map(([text, entity]) => {
      const start = position;
      position += text.length;
      return { begin: start, end: position, type: piece.entities[entity].type };
    });
    marks.push({ begin, end: position, entities: piece.entities, segments, isAdded: false });
  }
  const total = marks.reduce((sum, mark) => sum + mark.entities.length, 0);
  return { key, sha256, model, marks, total, text: pieces.map(asText).join("") };
}

function addedMark(begin, end, type) {
  const entities = [{ type, score: 1 }];
  return { begin, end, entities, segments: [{ begin, end, type }], isAdded: true };
}

const overlap = (one, other) => one.begin < other.end && other.begin < one.end;
const isDecided = ({ reviewed, rejected, added }) =>
  reviewed || rejected.size > 0 || added.length > 0;

// --- Spots: what a note shows after the decisions -------------------------------------------------

// Return the note's spots in their order. A spot is where marks overlap, or what is left of a
// rejected mark. Spots never overlap.
function spotsOf(note, { rejected, added }) {
  const kept = note.marks.filter((mark) => !rejected.has(mark));
  const spots = [];
  for (const mark of [...added, ...kept].sort((one, other) => one.begin - other.begin)) {
    const last = spots.at(-1);
    if (last && overlap(last, mark)) {
      last.end = Math.max(last.end, mark.end);
      last.marks.push(mark);
    } else {
      spots.push({ begin: mark.begin, end: mark.end, marks: [mark], isRejected: false });
    }
  }
  const left = [...rejected].flatMap((mark) => outside(mark, spots));
  return [...spots, ...left].sort((one, other) => one.begin - other.begin);
}

// Return the parts of a rejected mark that no spot covers.
function outside(mark, spots) {
  const parts = [];
  let begin = mark.begin;
  const add = (end) => {
    if (begin < end) parts.push({ begin, end, marks: [mark], isRejected: true });
  };
  for (const spot of spots.filter((each) => overlap(each, mark))) {
    add(spot.begin);
    begin = spot.end;
  }
  add(mark.end);
  return parts;
}

// Return the entities of a spot. The longest mark comes first, because it names the redacted text.
function entitiesOf({ marks }) {
  const byLength = marks.toSorted((one, other) => other.end - other.begin - (one.end - one.begin));
  return byLength.flatMap((mark) => mark.entities);
}

// Return the spot's text in parts, each with the type of the innermost entity.
function partsOf(spot, text) {
  // The reviewer's marks are around detected ones, so look for detected segments first.
  const marks = spot.marks.toSorted((one, other) => one.isAdded - other.isAdded);
  const segments = marks.flatMap((mark) => mark.segments);
  const cuts = new Set(segments.flatMap(({ begin, end }) => [begin, end]));
  const [first, ...ends] = [...cuts].sort((one, other) => one - other);
  let begin = first;
  return ends.map((end) => {
    const at = begin;
    begin = end;
    const { type } = segments.find((segment) => segment.begin <= at && end <= segment.end);
    return { text: text.slice(at, end), type };
  });
}

// --- Changes: each returns a new decision ---------------------------------------------------------

const withReviewed = (decision, reviewed) => ({ ...decision, reviewed });

// Leave no mark in the spot: reject detected marks, and remove added ones.
const withRejected = ({ reviewed, rejected, added }, { marks }) => ({
  reviewed,
  rejected: new Set([...rejected, ...marks.filter((mark) => !mark.isAdded)]),
  added: added.filter((mark) => !marks.includes(mark)),
});

const withRestored = (decision, { marks }) => ({
  ...decision,
  rejected: new Set([...decision.rejected].filter((mark) => !marks.includes(mark))),
});

// A new mark replaces the added marks that it overlaps, so that a second type corrects the first.
const withAdded = (decision, mark) => ({
  ...decision,
  added: [...decision.added.filter((other) => !overlap(other, mark)), mark],
});

// Return the range that is marked if the reviewer selects from `begin` to `end`, or null if that is
// only white space. The range contains every mark that the selection touches, because a reviewer
// cannot see what part of a mask is selected, and marks that overlap are redacted together.
function rangeToMark(text, spots, begin, end) {
  const isInsidePair = (at) =>
    /^(?:[\ud800-\udbff][\udc00-\udfff]|\r\n)$/.test(text.slice(at - 1, at + 1));
  const range = {
    begin: isInsidePair(begin) ? begin - 1 : begin,
    end: isInsidePair(end) ? end + 1 : end,
  };
  while (range.begin < range.end && /\s/.test(text[range.begin])) range.begin += 1;
  while (range.begin < range.end && /\s/.test(text[range.end - 1])) range.end -= 1;
  if (range.begin === range.end) return null;
  const touched = spots.filter((spot) => !spot.isRejected && overlap(spot, range));
  return {
    begin: Math.min(range.begin, ...touched.map((spot) => spot.begin)),
    end: Math.max(range.end, ...touched.map((spot) => spot.end)),
  };
}

// --- History --------------------------------------------------------------------------------------

// The decisions about all notes, with undo and redo. A step changes one note or several.
class History {
  #steps = [];
  #position = 0;
  #saved = 0;

  constructor(count) {
    this.decisions = Array(count).fill(UNDECIDED);
  }

  get canUndo() {
    return this.#position > 0;
  }

  get canRedo() {
    return this.#position < this.#steps.length;
  }

  get isSaved() {
    return this.#position === this.#saved;
  }

  save() {
    this.#saved = this.#position;
  }

  // Take a step. `changes` maps indices of notes to their new decisions.
  take(name, changes) {
    const before = new Map([...changes.keys()].map((index) => [index, this.decisions[index]]));
    if (this.#saved > this.#position) this.#saved = -1; // Redo can no longer reach what was saved.
    this.#steps.splice(this.#position, Infinity, { name, before, after: changes });
    return this.redo();
  }

  undo() {
    this.#position -= 1;
    return this.#apply("before");
  }

  redo() {
    this.#position += 1;
    return this.#apply("after");
  }

  #apply(side) {
    const step = this.#steps[side === "before" ? this.#position : this.#position - 1];
    for (const [index, decision] of step[side]) this.decisions[index] = decision;
    return { name: step.name, indices: [...step[side].keys()] };
  }
}

// --- The file -------------------------------------------------------------------------------------

const pointsBefore = (text, units) => [...text.slice(0, units)].length;
const unitsBefore = (text, points) => [...text].slice(0, points).join("").length;
const ascending = (one, other) => one - other;

// Return the content of the file. It contains offsets and ids, but no text.
function toFile(notes, decisions) {
  const documents = [];
  for (const [index, { key, sha256, text }] of notes.entries()) {
    const { reviewed, rejected, added } = decisions[index];
    if (!isDecided(decisions[index])) continue;
    const ids = [...rejected].flatMap(({ entities }) => entities.map(({ id }) => id));
    documents.push({
      input_key: key,
      sha256,
      reviewed,
      rejected: ids.sort(ascending),
      added: added
        .toSorted((one, other) => one.begin - other.begin)
        .map(({ begin, end, entities: [{ type }] }) => ({
          begin_offset: pointsBefore(text, begin),
          end_offset: pointsBefore(text, end),
          type,
        })),
    });
  }
  return `${JSON.stringify({ version: 1, documents }, null, 1)}\n`;
}

// Why a file cannot be loaded. The message quotes nothing from the file.
class Unusable extends Error {}

function demand(condition, problem) {
  if (!condition) throw new Unusable(problem);
}

function demandMembers(value, names, what) {
  demand(
    typeof value === "object" && value !== null && !Array.isArray(value),
    `${what} is not an object.`,
  );
  const missing = names.filter((name) => !Object.hasOwn(value, name));
  demand(missing.length === 0, `${what} lacks ${missing.join(", ")}.`);
  demand(Object.keys(value).length === names.length, `${what} has unknown members.`);
}

const isCount = (value) => Number.isSafeInteger(value) && value >= 0;

// Return the decisions in a file: a map from the indices of notes to their decisions. Raise
// Unusable unless all of it fits these notes and types.
function fromFile(content, notes, types) {
  let file;
  try {
    file = JSON.parse(content);
  } catch {
    throw new Unusable("The file is not JSON.");
  }
  demandMembers(file, ["version", "documents"], "The file");
  demand(file.version === 1, "The file has a version that this page does not know.");
  demand(Array.isArray(file.documents), "The member documents is not a list.");
  const places = new Map(notes.map(({ key }, index) => [key, index]));
  const decisions = new Map();
  for (const [number, row] of file.documents.entries()) {
    const what = `Document ${number + 1} of the file`;
    demandMembers(row, ["input_key", "sha256", "reviewed", "rejected", "added"], what);
    const index = places.get(row.input_key);
    demand(index !== undefined, `${what} is not on this page.`);
    demand(!decisions.has(index), `${what} occurs twice.`);
    demand(row.sha256 === notes[index].sha256, `${what} was made for another version of the note.`);
    demand(typeof row.reviewed === "boolean", `${what} does not say whether it is reviewed.`);
    const rejected = readRejected(row.rejected, notes[index], what);
    const added = readAdded(row.added, notes[index], types, what);
    decisions.set(index, { reviewed: row.reviewed, rejected, added });
  }
  return decisions;
}

function readRejected(ids, note, what) {
  demand(Array.isArray(ids) && ids.every(Number.isSafeInteger), `${what} has no list of ids.`);
  const wanted = new Set(ids);
  demand(wanted.size === ids.length, `${what} rejects an entity twice.`);
  const isWanted = ({ id }) => wanted.delete(id);
  const rejected = note.marks.filter(({ entities }) => {
    const count = entities.filter(isWanted).length;
    const isWhole = count === 0 || count === entities.length;
    demand(isWhole, `${what} rejects only some of the entities that share a mark.`);
    return count > 0;
  });
  demand(wanted.size === 0, `${what} rejects an entity that does not exist.`);
  return new Set(rejected);
}

function readAdded(rows, note, types, what) {
  demand(Array.isArray(rows), `${what} has no list of added marks.`);
  const length = rows.length > 0 ? pointsBefore(note.text, note.text.length) : 0;
  const seen = new Set();
  return rows.map((row) => {
    demandMembers(row, ["begin_offset", "end_offset", "type"], `An added mark of ${what}`);
    const { begin_offset: begin, end_offset: end, type } = row;
    const isInside = isCount(begin) && isCount(end) && begin < end && end <= length;
    demand(isInside, `${what} has an added mark with offsets that do not fit.`);
    demand(types.includes(type), `${what} has an added mark of an unknown type.`);
    const name = `${begin} ${end} ${type}`;
    demand(!seen.has(name), `${what} has an added mark twice.`);
    seen.add(name);
    return addedMark(unitsBefore(note.text, begin), unitsBefore(note.text, end), type);
  });
}
