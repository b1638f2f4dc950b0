/** A program for the type checker; package.test.ts compiles it against the packed client. It is not executed. */

import {
  Client,
  type ClavigerError,
  type FailedItem,
  type Key,
  KeyState,
  type Secret,
  SecretText,
  type UnwrapResult,
  type UnwrappedItem,
  isKnown,
} from "@claviger/client";
import { decrypt, decryptFile, encrypt } from "@claviger/client/files";

/** Whether two types are the same. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function is<A, B>(_: Same<A, B>): void {}

export async function program(claviger: Client): Promise<void> {
  const key = await claviger.getKey("orders");
  is<typeof key, Key>(true);
  if (isKnown(KeyState, key.state)) {
    is<typeof key.state, (typeof KeyState)[keyof typeof KeyState]>(true);
  }
  // A word of a later gateway.
  const word: Key["state"] = "eclipsed";
  for await (const listed of claviger.listKeys({ state: "enabled", label: ["env", word] })) {
    is<typeof listed, Key>(true);
  }
  const unwrapped = await claviger.withOptions({ tenant: "acme" }).unwrap("clv1.x", { context: { table: "orders" } });
  is<typeof unwrapped, UnwrapResult>(true);
  is<typeof unwrapped.plaintext, Secret>(true);
  // As Web Crypto takes it.
  await crypto.subtle.importKey("raw", unwrapped.plaintext.expose(), "AES-GCM", false, ["encrypt"]);
  const whole = await claviger.generateDataKey("orders");
  is<typeof whole.plaintext, Secret>(true);
  const wrapped = await claviger.generateDataKey("orders", { plaintext: false });
  is<typeof wrapped.plaintext, Secret | undefined>(true);
  await claviger.createConnection("aws", "aws", {
    region: "eu-central-1",
    auth: { static: { accessKeyId: "a", secretAccessKey: new SecretText("b") } },
  });
  await claviger.updateKey("orders", { cache: key.cache, labels: { ...key.labels, env: "prod" } }, { etag: key.etag });
  for (const item of await claviger.batchUnwrap([{ wrapped: "clv1.x", context: undefined }])) {
    if (item.error) {
      is<typeof item, FailedItem>(true);
      is<typeof item.error, ClavigerError>(true);
    } else {
      is<typeof item, UnwrappedItem>(true);
    }
  }
  for await (const piece of decrypt(claviger, encrypt(claviger, "orders", new Blob(["content"]).stream(), { context: { table: "orders" } }))) {
    is<typeof piece, Uint8Array>(true);
  }
  await decryptFile(claviger, "a", new URL("file:///b"), { key: "orders", signal: AbortSignal.timeout(5000) });
  // @ts-expect-error Text is no source.
  encrypt(claviger, "orders", "path");
  // @ts-expect-error Bytes are no source; an array of them is.
  encrypt(claviger, "orders", new Uint8Array(5));
  // @ts-expect-error A name is text.
  await claviger.getKey(1);
  // @ts-expect-error A misspelt option.
  await claviger.generateDataKey("orders", { contxt: {} });
  // @ts-expect-error Text is no plaintext.
  await claviger.wrap("orders", "text");
  // @ts-expect-error Of another provider.
  await claviger.createConnection("aws", "aws", { address: "https://vault.example" });
  // @ts-expect-error A length that data keys do not have.
  await claviger.generateDataKey("orders", { bytes: 20 });
  // @ts-expect-error A filter that does not exist.
  claviger.listKeys({ state: "destroyed" });
  // @ts-expect-error Results are not changed.
  key.name = "other";
  using client = new Client({ address: "http://localhost", token: "t" });
  await client.whoAmI({ signal: AbortSignal.timeout(5000) });
}
