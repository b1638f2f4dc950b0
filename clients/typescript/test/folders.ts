/** Where things are. The tests run in the package's folder, wherever they were compiled to. */

import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

export const PACKAGE = process.cwd();
export const ROOT = path.dirname(path.dirname(PACKAGE));
if (JSON.parse(readFileSync(path.join(PACKAGE, "package.json"), "utf8")).name !== "@claviger/client") {
  throw new Error("run the tests in clients/typescript");
}
/** The folder with the compiler, which tests/run keeps outside of the checkout. */
export const MODULES = process.env["CLAVIGER_TEST_MODULES"] ?? path.join(PACKAGE, "node_modules");

/** A test, or a file with tests, at whose end something is cleaned up. */
export interface Scope {
  after(clean: () => Promise<unknown>): void;
}

/** A folder that ends with the test, after what uses it to the end. Hooks run in their order, and none after one that fails. */
export async function temporaryFolder(test: Scope, end: () => Promise<unknown> = async () => undefined): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), "claviger-test-"));
  test.after(async () => {
    await end();
    await rm(folder, { recursive: true, force: true });
  });
  return folder;
}
