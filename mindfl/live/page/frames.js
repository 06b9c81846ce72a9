// Work in small pieces: messages are taken in and parts of the page are drawn without holding up whoever uses it.

const PIECE_MS = 8, SHOW_MS = 250;

// Takes messages in, also while the page is in the background, where there are no frames.
export class Inbox {
  // take(message); shown() is called when all were taken in, and now and then on the way there
  constructor(take, shown) {
    Object.assign(this, { take, shown, messages: [], next: 0, showed: 0 });
  }

  push(message) {
    if (this.messages.push(message) === 1) setTimeout(() => this.piece());
  }

  piece() {
    const end = performance.now() + PIECE_MS;
    do {
      const message = this.messages[this.next];
      this.messages[this.next] = null;
      this.next += 1;
      this.take(message);
    } while (this.next < this.messages.length && performance.now() < end);
    const empty = this.next === this.messages.length;
    if (empty) Object.assign(this, { messages: [], next: 0 });
    else setTimeout(() => this.piece());
    if (empty || performance.now() - this.showed > SHOW_MS) {
      this.showed = performance.now();
      this.shown();
    }
  }
}

// Draws the parts that have changed, at most a piece of work in a frame.
export class Parts {
  // draws: {name: end -> whether there is more to draw after the time `end`}
  constructor(draws) {
    Object.assign(this, { draws, needed: new Set(), asked: false });
  }

  need(...names) {
    for (const name of names) this.needed.add(name);
    if (this.asked || !this.needed.size) return;
    this.asked = true;
    requestAnimationFrame(() => { this.asked = false; this.frame(); });
  }

  frame() {
    const end = performance.now() + PIECE_MS, more = [];
    for (const name of this.needed) {
      this.needed.delete(name);
      if (this.draws[name](end) === true) more.push(name);
      if (performance.now() >= end) break;
    }
    this.need(...more);
  }
}
