/**
 * Secrets that do not print.
 *
 * JavaScript cannot erase text: what came as JSON stays in the process until its memory is used again. These types
 * keep secrets out of logs, errors and JSON, which is where they get lost.
 */

import { timingSafeEqual } from "node:crypto";
import { inspect } from "node:util";

/**
 * What both kinds of secret share. The content is behind a function in a private field: a debugger shows private fields,
 * and so does its `console.log`.
 */
abstract class Hidden {
  protected abstract bytes(): Uint8Array;

  /** Compares in a time that depends on the lengths alone. */
  equals(other: this): boolean {
    if (!(other instanceof Hidden) || other.constructor !== this.constructor) {
      return false;
    }
    const [mine, others] = [this.bytes(), other.bytes()];
    return mine.length === others.length && timingSafeEqual(mine, others);
  }

  /** The name of the class, without the content. */
  toString(): string {
    return `${this.constructor.name}(...)`;
  }

  /** The same: `JSON.stringify` shows no content. */
  toJSON(): string {
    return this.toString();
  }

  /** The same: `console.log` shows no content. */
  [inspect.custom](): string {
    return this.toString();
  }
}

/** Bytes that do not print: a data key, or an unwrapped plaintext. */
export class Secret extends Hidden {
  readonly #read: () => Uint8Array<ArrayBuffer>;

  /** Copies the bytes. */
  constructor(content: Uint8Array) {
    super();
    if (!(content instanceof Uint8Array)) {
      throw new TypeError("the content of a Secret is a Uint8Array");
    }
    const copy = new Uint8Array(content);
    this.#read = () => copy;
  }

  /** The length in bytes. */
  get length(): number {
    return this.#read().length;
  }

  /**
   * The content: the secret's own bytes, and no copy of them. Keep it as briefly as you can, and do not log it. To erase
   * this copy, fill it with zeros; the text of the response that it came from stays in memory for a while.
   */
  expose(): Uint8Array<ArrayBuffer> {
    return this.#read();
  }

  protected override bytes(): Uint8Array {
    return this.#read();
  }
}

/** Text that does not print: a token. */
export class SecretText extends Hidden {
  readonly #read: () => string;

  constructor(content: string) {
    super();
    if (typeof content !== "string") {
      throw new TypeError("the content of a SecretText is a string");
    }
    this.#read = () => content;
  }

  /** The content. Do not log it. */
  expose(): string {
    return this.#read();
  }

  protected override bytes(): Uint8Array {
    return new TextEncoder().encode(this.#read());
  }
}
