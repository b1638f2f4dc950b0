/** The words of the API, such as the state of a key. */

/** A word of this object, or one that a later gateway adds. */
export type Open<Words> = Words[keyof Words] | (string & {});

/** A word of this object, and no other. */
export type Closed<Words> = Words[keyof Words];

/**
 * Whether this release knows a word: `isKnown(KeyState, key.state)`. Treat a key whose state it does not know as
 * unusable.
 */
export function isKnown<Words extends Readonly<Record<string, string>>>(words: Words, word: string): word is Closed<Words> {
  return Object.values(words).includes(word);
}
