"use strict";

// The note on the screen: which node shows which part of the text, and the caret in it.
//
// A browser has no caret in text that cannot be edited. If the note could be edited, spelling
// checkers would read it, and some send what they read elsewhere. So the page moves the browser's
// selection itself and draws the caret.

class ShownNote {
  // Each piece has `node`, `begin`, `end` and `isMasked`. A mask shows a label instead of the text.
  #pieces = [];
  #length = 0;
  #element;
  #caret = document.createElement("span");

  constructor(element) {
    this.#element = element;
    this.#caret.className = "caret";
    this.#caret.setAttribute("aria-hidden", "true");
    this.#caret.hidden = true;
    for (const name of ["focusin", "focusout"])
      element.addEventListener(name, () => this.drawCaret());
    document.addEventListener("selectionchange", () => this.drawCaret());
    new ResizeObserver(() => this.drawCaret()).observe(element);
  }

  show(pieces) {
    this.#pieces = pieces;
    this.#length = pieces.at(-1)?.end ?? 0;
    this.#caret.hidden = true;
    this.#element.replaceChildren(...pieces.map(({ node }) => node), this.#caret);
  }

  // Return the text with masked parts replaced by a character that no text contains.
  visible(text) {
    return this.#pieces
      .map(({ begin, end, isMasked }) =>
        isMasked ? "\ufdd0".repeat(end - begin) : text.slice(begin, end),
      )
      .join("");
  }

  // --- Places in the document, and offsets in the text ---

  // Return the offsets of a place: two that are equal, or the ends of the mask that it is in.
  #offsetsAt(container, offset) {
    if (container === this.#element) {
      const next = this.#pieces[offset]?.begin ?? this.#length;
      return [next, next];
    }
    const piece = this.#pieces.find(({ node }) => node.contains(container));
    if (!piece) return [this.#length, this.#length];
    const before = document.createRange();
    before.setStart(piece.node, 0);
    before.setEnd(container, offset);
    const count = before.toString().length;
    if (!piece.isMasked) return [piece.begin + count, piece.begin + count];
    const isAtEnd = count === piece.node.textContent.length;
    return [isAtEnd ? piece.end : piece.begin, count === 0 ? piece.begin : piece.end];
  }

  #placeOf(offset) {
    for (const { node, begin, end, isMasked } of this.#pieces) {
      if (isMasked || offset < begin || offset > end) continue;
      let rest = offset - begin;
      for (const text of textNodes(node)) {
        if (rest <= text.length) return [text, rest];
        rest -= text.length;
      }
    }
    // There are only masks on both sides.
    const next = this.#pieces.findIndex(({ begin }) => begin >= offset);
    return [this.#element, next < 0 ? this.#pieces.length : next];
  }

  // --- The selection ---

  // The selected range of the text, with the whole of every mask that it touches, or null.
  get selected() {
    const selection = getSelection();
    if (selection.rangeCount === 0) return null;
    const range = selection.getRangeAt(0).cloneRange();
    if (!range.intersectsNode(this.#element)) return null;
    const all = document.createRange();
    all.selectNodeContents(this.#element);
    if (range.compareBoundaryPoints(Range.START_TO_START, all) < 0)
      range.setStart(this.#element, 0);
    if (range.compareBoundaryPoints(Range.END_TO_END, all) > 0) {
      range.setEnd(all.endContainer, all.endOffset);
    }
    const [begin] = this.#offsetsAt(range.startContainer, range.startOffset);
    const [, end] = this.#offsetsAt(range.endContainer, range.endOffset);
    return begin < end ? { begin, end } : null;
  }

  // Where the selection ends that the reviewer extends: an offset, or null if it is not in the note.
  get caret() {
    const { focusNode, focusOffset } = getSelection();
    if (!this.#element.contains(focusNode)) return null;
    return this.#offsetsAt(focusNode, focusOffset)[0];
  }

  select(begin, end = begin) {
    getSelection().setBaseAndExtent(...this.#placeOf(begin), ...this.#placeOf(end));
  }

  // Move the caret, or extend the selection. Masks are crossed in one step. Return the text that was
  // crossed, as it is shown.
  moveCaret(direction, unit, isExtending) {
    const selection = getSelection();
    const start = this.caret;
    const go = (offset) => selection[isExtending ? "extend" : "collapse"](...this.#placeOf(offset));
    if (unit === "note") {
      go(direction === "forward" ? this.#length : 0);
    } else {
      selection.modify(isExtending ? "extend" : "move", direction, unit);
      const place = this.#element.compareDocumentPosition(selection.focusNode);
      if (place & Node.DOCUMENT_POSITION_PRECEDING) go(0);
      if (
        place & Node.DOCUMENT_POSITION_FOLLOWING &&
        !this.#element.contains(selection.focusNode)
      ) {
        go(this.#length);
      }
      const [before, after] = this.#offsetsAt(selection.focusNode, selection.focusOffset);
      if (before !== after) go(start <= before ? after : before);
    }
    this.scrollToCaret();
    return isExtending ? selection.toString() : this.#textBetween(start, this.caret);
  }

  #textBetween(one, other) {
    const range = document.createRange();
    range.setStart(...this.#placeOf(Math.min(one, other)));
    range.setEnd(...this.#placeOf(Math.max(one, other)));
    return range.toString();
  }

  // --- The caret ---

  scrollToCaret() {
    this.drawCaret();
    this.#caret.scrollIntoView({ block: "nearest" });
  }

  drawCaret() {
    this.#caret.hidden = !this.#element.contains(document.activeElement) || this.caret === null;
    if (this.#caret.hidden) return;
    const { x, y, height } = this.#boxOf(getSelection());
    const origin = this.#element.getBoundingClientRect();
    this.#caret.style.left = `${x - origin.x + this.#element.scrollLeft}px`;
    this.#caret.style.top = `${y - origin.y + this.#element.scrollTop}px`;
    this.#caret.style.height = `${height}px`;
  }

  // Return where the caret is on the screen. Between nodes, a range has no box, so use a neighbor's.
  #boxOf({ focusNode, focusOffset }) {
    const range = document.createRange();
    range.setStart(focusNode, focusOffset);
    const [own] = range.getClientRects();
    if (own) return own;
    if (focusOffset > 0) {
      range.setStart(focusNode, focusOffset - 1);
      const last = [...range.getClientRects()].at(-1);
      if (last) return { x: last.right, y: last.y, height: last.height };
    }
    range.setStart(focusNode, focusOffset);
    range.setEndAfter(this.#element.lastChild);
    return (
      range.getClientRects()[0] ?? { ...this.#element.getBoundingClientRect().toJSON(), height: 0 }
    );
  }
}

function textNodes(node) {
  if (node.nodeType === Node.TEXT_NODE) return [node];
  return [...node.childNodes].flatMap(textNodes);
}
