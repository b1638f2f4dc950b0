/** JSON to models and back. Knows nothing of HTTP. */

import { ClavigerError, problemError } from "./errors.js";
import { Secret, SecretText } from "./secrets.js";

/** A duration: milliseconds, or text such as `"90d"`. */
export type Duration = number | `${number}${"ms" | "s" | "m" | "h" | "d"}`;

/** What the headers of a response say. */
export interface Meta {
  /** The gateway's id of the request, which is in its audit record, too. */
  readonly requestId: string | undefined;
  /** The place of the request's record in the audit log; of a batch each item has its own. */
  readonly auditIndex: string | undefined;
}

/** What everything has that the gateway returns. Neither member is enumerable, so that logs and JSON do not have them. */
export interface Model {
  /** Members that this release of the client does not know, as JSON. A later gateway may add a secret. */
  readonly extra: Readonly<Record<string, unknown>>;
  /** The request's id and record. Undefined for an object inside another one. */
  readonly meta?: Meta | undefined;
}

/** A value is not of the documented type. Contains no value. */
export class Mismatch extends Error {
  constructor(at: string, expected: string) {
    super(`${at || "/"} is not ${expected}`);
  }
}

/** Makes values of JSON, and JSON of what callers give. `at` is the place, as a JSON pointer. */
export interface Codec<Out, In = Out> {
  /** Throws `Mismatch`. */
  decode(value: unknown, at: string): Out;
  /** Throws `TypeError`. */
  encode(value: In, at: string): unknown;
}

/** A codec of a type that has one form in both directions. */
function scalar<T>(expected: string, fits: (value: unknown) => boolean): Codec<T> {
  return {
    decode(value, at) {
      if (!fits(value)) {
        throw new Mismatch(at, expected);
      }
      return value as T;
    },
    encode(value, at) {
      if (!fits(value)) {
        throw new TypeError(`${at} must be ${expected}`);
      }
      return value;
    },
  };
}

export const text = scalar<string>("text", (value) => typeof value === "string");
export const flag = scalar<boolean>("true or false", (value) => typeof value === "boolean");
export const integer = scalar<number>("an integer", Number.isSafeInteger);

/** Any JSON. What callers give may have secrets in it, which JSON would otherwise have as their placeholders. */
export const json: Codec<unknown> = {
  decode: (value) => value,
  encode(value, at) {
    if (value instanceof Secret) {
      return secretBytes.encode(value, at);
    }
    if (value instanceof SecretText) {
      return value.expose();
    }
    if (Array.isArray(value)) {
      return value.map((item, index) => json.encode(item, `${at}/${index}`));
    }
    return typeof value === "object" && value !== null ? map(json).encode(value as Record<string, unknown>, at) : value;
  },
};

/** Text that is one of a closed list of words. The gateway says which ones, so nothing is compared here. */
export function word<T extends string>(): Codec<T> {
  return text as Codec<string> as Codec<T>;
}

/** An integer of a closed list. */
export function number<T extends number>(): Codec<T> {
  return integer as Codec<number> as Codec<T>;
}

/** The body of a successful response that is plain text, or that does not exist. */
export const plain = text;
export const nothing: Codec<void> = { decode: () => undefined, encode: () => undefined };

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

function decoded(value: unknown, at: string): Buffer {
  if (typeof value !== "string" || !BASE64.test(value)) {
    throw new Mismatch(at, "standard base64");
  }
  return Buffer.from(value, "base64");
}

export const bytes: Codec<Uint8Array> = {
  decode: (value, at) => new Uint8Array(decoded(value, at)),
  encode(value, at) {
    // Text would pass for base64, and other bytes than meant would be sent.
    if (!(value instanceof Uint8Array)) {
      throw new TypeError(`${at} must be a Uint8Array`);
    }
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64");
  },
};

export const secretBytes: Codec<Secret, Secret | Uint8Array> = {
  decode(value, at) {
    const content = decoded(value, at);
    const secret = new Secret(content);
    // Small buffers are parts of a pool that the whole process shares.
    content.fill(0);
    return secret;
  },
  encode: (value, at) => bytes.encode(value instanceof Secret ? value.expose() : value, at),
};

export const secretText: Codec<SecretText, SecretText | string> = {
  decode: (value, at) => new SecretText(text.decode(value, at)),
  encode: (value, at) => text.encode(value instanceof SecretText ? value.expose() : value, at),
};

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)$/;

/** A time in UTC, to the millisecond. */
export const time: Codec<Date> = {
  decode(value, at) {
    const found = typeof value === "string" && TIME.test(value) ? new Date(value) : undefined;
    if (found === undefined || Number.isNaN(found.getTime())) {
      throw new Mismatch(at, "a time in UTC");
    }
    return found;
  },
  encode: (value) => value.toISOString(),
};

const UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const DURATION = /^(\d+)(ms|s|m|h|d)$/;

/** A duration: milliseconds here, text in JSON. */
export const duration: Codec<number, Duration> = {
  decode(value, at) {
    const [, count, unit] = (typeof value === "string" && DURATION.exec(value)) || [];
    const found = Number(count) * UNITS[unit as keyof typeof UNITS];
    if (!Number.isSafeInteger(found)) {
      throw new Mismatch(at, "a duration");
    }
    return found;
  },
  encode(value, at) {
    if (typeof value === "string" ? !DURATION.test(value) : !(Number.isSafeInteger(value) && value >= 0)) {
      throw new TypeError(`${at} must be whole milliseconds, or text such as "90d"`);
    }
    return typeof value === "string" ? value : `${value}ms`;
  },
};

/** The error of a batch's item. */
export const problem: Codec<ClavigerError> = {
  decode: (value, at) => problemError(members(value, at)),
  encode: () => {
    throw new TypeError("an error is not sent");
  },
};

export function nullable<Out, In>(inner: Codec<Out, In>): Codec<Out | null, In | null> {
  return {
    decode: (value, at) => (value === null ? null : inner.decode(value, at)),
    encode: (value, at) => (value === null ? null : inner.encode(value, at)),
  };
}

export function list<Out, In>(inner: Codec<Out, In>): Codec<readonly Out[], readonly In[]> {
  return {
    decode(value, at) {
      if (!Array.isArray(value)) {
        throw new Mismatch(at, "an array");
      }
      return value.map((item, index) => inner.decode(item, `${at}/${index}`));
    },
    encode(value, at) {
      if (!Array.isArray(value)) {
        throw new TypeError(`${at} must be an array`);
      }
      return value.map((item: In, index) => inner.encode(item, `${at}/${index}`));
    },
  };
}

export function map<Out, In>(inner: Codec<Out, In>): Codec<Readonly<Record<string, Out>>, Readonly<Record<string, In>>> {
  // `fromEntries` makes an ordinary member also of the name `__proto__`.
  return {
    decode: (value, at) =>
      Object.fromEntries(Object.entries(members(value, at)).map(([name, of]) => [name, inner.decode(of, `${at}/${name}`)])),
    encode: (value, at) =>
      Object.fromEntries(Object.entries(given(value, at)).map(([name, of]) => [name, inner.encode(of as In, `${at}/${name}`)])),
  };
}

interface Member<Out, In, Required> {
  readonly name: string;
  readonly codec: Codec<Out, In>;
  readonly required: Required;
}

/** A member that is always there, by its name in JSON. */
export function required<Out, In>(name: string, codec: Codec<Out, In>): Member<Out, In, true> {
  return { name, codec, required: true };
}

/** A member that may be left out. */
export function optional<Out, In>(name: string, codec: Codec<Out, In>): Member<Out, In, false> {
  return { name, codec, required: false };
}

/** The members of an interface, but those of `Model` and those that never have a value. */
type Members<T> = {
  readonly [Name in keyof T as Name extends keyof Model ? never : [T[Name]] extends [undefined] ? never : Name]-?: undefined extends T[Name]
    ? Member<Exclude<T[Name], undefined>, Exclude<T[Name], undefined>, false>
    : Member<T[Name], T[Name], true>;
};

const NONE: Readonly<Record<string, unknown>> = Object.freeze({});

/** An object with known members. They are looked up at the first use, since modules refer to each other. */
export function object<T extends object>(describe: () => Members<T>): Codec<T> {
  let found: readonly (readonly [string, Member<unknown, unknown, boolean>])[] | undefined;
  const table = () => (found ??= Object.entries(describe()));
  return {
    decode(value, at) {
      const source = members(value, at);
      const made: Record<string, unknown> = {};
      const extra = new Map(Object.entries(source));
      for (const [name, member] of table()) {
        const place = `${at}/${member.name}`;
        if (!extra.delete(member.name)) {
          if (member.required) {
            throw new Mismatch(place, "there");
          }
        } else if (member.required || source[member.name] !== null) {
          made[name] = member.codec.decode(source[member.name], place);
        }
      }
      const value_ = extra.size === 0 ? NONE : Object.freeze(Object.fromEntries(extra));
      return Object.defineProperty(made, "extra", { value: value_ }) as T;
    },
    encode(value, at) {
      const left = new Map(Object.entries(given(value, at)));
      const made: Record<string, unknown> = {};
      for (const [name, member] of table()) {
        const of = left.get(name);
        left.delete(name);
        if (of !== undefined) {
          made[member.name] = member.codec.encode(of, `${at}/${name}`);
        } else if (member.required) {
          throw new TypeError(`${at}/${name} is missing`);
        }
      }
      for (const name of left.keys()) {
        // A context with a misspelt name must not get lost.
        throw new TypeError(`${at}/${name} is no member of this request`);
      }
      return { ...made, ...(value as Partial<Model>).extra };
    },
  };
}

/** The result of a batch's item: what failed has the member `error`, and nothing else has. */
export function failedOr<T>(choices: () => readonly [failed: Codec<T>, succeeded: Codec<T>]): Codec<T> {
  return {
    decode(value, at) {
      const [failed, succeeded] = choices();
      return "error" in members(value, at) ? failed.decode(value, at) : succeeded.decode(value, at);
    },
    encode: problem.encode as Codec<T>["encode"],
  };
}

/** One of several objects, by the word in a member that all of them have. */
export function byWord<T extends object>(member: keyof T & string, choices: () => Readonly<Record<string, Codec<object>>>): Codec<T> {
  return {
    decode: json.decode as Codec<T>["decode"],
    encode(value, at) {
      const known = choices();
      const named = String(value[member]);
      const codec = Object.hasOwn(known, named) ? known[named] : undefined;
      if (codec === undefined) {
        throw new TypeError(`${at}/${member} must be one of ${Object.keys(known).join(", ")}`);
      }
      return codec.encode(value, at);
    },
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function members(value: unknown, at: string): Record<string, unknown> {
  if (!isObject(value)) {
    throw new Mismatch(at, "an object");
  }
  return value;
}

function given(value: unknown, at: string): Record<string, unknown> {
  if (!isObject(value)) {
    throw new TypeError(`${at || "the argument"} must be an object`);
  }
  return value;
}
