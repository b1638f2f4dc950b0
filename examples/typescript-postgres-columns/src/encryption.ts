import type { Secret } from "@claviger/client";
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";

const NONCE = 12;
const TAG = 16;

/** Encrypts a column's value with AES-256-GCM: nonce, ciphertext, tag. It opens as a value of the same column only. */
export function encrypt(dataKey: Secret, column: string, value: string): Uint8Array {
  const nonce = randomBytes(NONCE);
  const cipher = createCipheriv("aes-256-gcm", dataKey.expose(), nonce).setAAD(Buffer.from(column));
  return Buffer.concat([nonce, cipher.update(value, "utf8"), cipher.final(), cipher.getAuthTag()]);
}

/** Decrypts what `encrypt` made. Throws if it was changed. */
export function decrypt(dataKey: Secret, column: string, stored: Uint8Array): string {
  const decipher = createDecipheriv("aes-256-gcm", dataKey.expose(), stored.subarray(0, NONCE), { authTagLength: TAG });
  decipher.setAAD(Buffer.from(column)).setAuthTag(stored.subarray(-TAG));
  return Buffer.concat([decipher.update(stored.subarray(NONCE, -TAG)), decipher.final()]).toString("utf8");
}
