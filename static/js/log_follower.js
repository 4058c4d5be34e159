// What a page shows of an output that grows: increments may overlap, come twice, or leave something out.
import { _ } from "./dom.js";

const KEPT = 10 * 1024; // bytes of output that the server keeps, cut at a character
const encoder = new TextEncoder();
const decoder = new TextDecoder();

export class LogFollower {
  /** `again` asks for the stored text, which comes as a snapshot. */
  constructor(viewer, text, again) {
    this.viewer = viewer;
    this.again = again;
    this.asked = false; // about the gap we are at
    this.viewer.set(text);
    this.bytes = encoder.encode(text).length; // of the output shown, as UTF-8
  }

  get full() {
    return this.bytes > KEPT - 4;
  }

  /** The stored text. While the execution runs it is never more than a beginning of what is shown. */
  snapshot(text, ended) {
    const length = encoder.encode(text).length;
    if (ended ? !text && this.bytes : length <= this.bytes) return;
    this.viewer.set(text);
    this.bytes = length;
  }

  increment(offset, text) {
    const encoded = encoder.encode(text);
    const end = offset + encoded.length;
    if (end <= this.bytes) return;
    if (offset > this.bytes) {
      if (!this.asked && this.bytes < KEPT) {
        this.asked = true;
        this.again();
        return;
      }
      const count = offset - this.bytes;
      this.viewer.append(`${this.viewer.open ? "\n" : ""}${_("[%(count)s bytes are left out here]", { count })}\n`);
      this.bytes = offset;
    }
    this.asked = false;
    this.viewer.append(offset === this.bytes ? text : decoder.decode(encoded.slice(this.bytes - offset)));
    this.bytes = end;
  }

  /** Another attempt has begun, with an output of its own. */
  restart() {
    this.viewer.set("");
    this.bytes = 0;
    this.asked = false;
    this.again();
  }
}
