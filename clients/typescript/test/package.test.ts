/** The package: what is in it, its types as a program sees them, and the programs of the README. */

import assert from "node:assert/strict";
import { type ExecFileOptions, execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { cp, mkdir, readFile, readdir, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { after, test } from "node:test";
import { promisify } from "node:util";

import { VERSION } from "../src/index.js";
import { MODULES, PACKAGE, ROOT, temporaryFolder } from "./folders.js";
import { Gateway } from "./gateway.js";

const DESCRIPTION = JSON.parse(readFileSync(path.join(PACKAGE, "package.json"), "utf8"));
const OPTIONS = {
  module: "nodenext",
  target: "es2022",
  types: ["node"],
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  // Of the compiler's own lib.*.d.ts, which are not the client's.
  skipDefaultLibCheck: true,
};

async function run(program: string, arguments_: readonly string[], options: ExecFileOptions = {}): Promise<string> {
  const { stdout } = await promisify(execFile)(program, arguments_, options).catch((error) => {
    throw new Error(`${error.message}\n${error.stdout}${error.stderr}`);
  });
  return stdout.toString();
}

/** A folder with a program's package.json, in which the packed client is installed. */
async function install(): Promise<{ folder: string; packed: string[] }> {
  const folder = await temporaryFolder({ after });
  const source = path.join(folder, "source");
  // Packing compiles, which must not write into the checkout.
  const left = [path.join(PACKAGE, "node_modules"), path.join(PACKAGE, "dist"), path.join(PACKAGE, "dist-test")];
  await cp(PACKAGE, source, { recursive: true, filter: (file) => !left.includes(file) });
  await symlink(MODULES, path.join(source, "node_modules"));
  await run("npm", ["pack", "--silent", "--pack-destination", folder], { cwd: source });
  const archive = path.join(folder, `claviger-client-${VERSION}.tgz`);
  const packed = (await run("tar", ["-tzf", archive])).trim().split("\n").sort();
  const scope = path.join(folder, "node_modules", "@claviger");
  await mkdir(scope, { recursive: true });
  await run("tar", ["-xzf", archive, "-C", scope]);
  await run("mv", [path.join(scope, "package"), path.join(scope, "client")]);
  await symlink(path.join(MODULES, "@types"), path.join(folder, "node_modules", "@types"));
  await symlink(path.join(MODULES, "undici-types"), path.join(folder, "node_modules", "undici-types"));
  await writeFile(path.join(folder, "package.json"), JSON.stringify({ type: "module" }));
  return { folder, packed };
}

const { folder, packed } = await install();

/** Compiles programs beside the installed client; without skipLibCheck, so that the client's types are checked, too. */
async function compile(names: readonly string[], options: object = {}): Promise<void> {
  const configuration = path.join(folder, `${names.join("-")}.json`);
  const files = names.map((name) => `${name}.ts`);
  await writeFile(configuration, JSON.stringify({ compilerOptions: { ...OPTIONS, ...options }, files }));
  await run(process.execPath, [path.join(MODULES, "typescript", "bin", "tsc"), "-p", configuration]);
}

await cp(path.join(PACKAGE, "test", "typed-program.ts"), path.join(folder, "typed.ts"));
const blocks = [...readFileSync(path.join(PACKAGE, "README.md"), "utf8").matchAll(/```ts\n(.*?)```/gs)].map(([, code]) => code);
// Later programs go on with the names of earlier ones, as a reader does.
await writeFile(path.join(folder, "readme.ts"), blocks.join("\n"));
// Together, since each run of the compiler takes seconds. The tests report a failure.
const compiled = compile(["typed", "readme"]);
compiled.catch(() => undefined);

test("the package has what it needs, and nothing else", async () => {
  const sources = (await readdir(path.join(PACKAGE, "src"), { recursive: true })).filter((file) => file.endsWith(".ts"));
  const built = sources.flatMap((file) => [".js", ".d.ts"].map((extension) => `package/dist/${file.replace(/\.ts$/, extension)}`));
  assert.deepEqual(packed, [...built, "package/LICENSE", "package/README.md", "package/package.json"].sort());
  assert.equal(DESCRIPTION.version, VERSION);
  const client = path.join(folder, "node_modules", "@claviger", "client");
  assert.deepEqual(await readFile(path.join(client, "LICENSE")), await readFile(path.join(ROOT, "LICENSE")));
});

test("nothing is needed at run time but Node", async () => {
  assert.equal(DESCRIPTION.dependencies, undefined);
  assert.equal(DESCRIPTION.peerDependencies, undefined);
  const built = path.join(folder, "node_modules", "@claviger", "client", "dist");
  for (const file of await readdir(built, { recursive: true })) {
    if (file.endsWith(".js") || file.endsWith(".d.ts")) {
      const text = await readFile(path.join(built, file), "utf8");
      for (const [, used] of text.matchAll(/(?:from|import\()\s*"([^"]+)"/g)) {
        // The examples in comments import the package itself.
        assert.ok(/^(node:|\.|@claviger\/client)/.test(used ?? ""), `${file}: ${used}`);
      }
    }
  }
  assert.deepEqual(Object.keys(DESCRIPTION.devDependencies).sort(), ["@types/node", "typescript"]);
});

test("the package's types are what a program expects", async () => {
  await compiled;
  // Bundlers resolve modules in another way, and browsers' types are often there.
  await compile(["typed"], { noEmit: true, module: "esnext", moduleResolution: "bundler", lib: ["esnext", "dom", "dom.iterable", "dom.asynciterable"] });
});

test("the programs of the README", async (t) => {
  const gateway = await Gateway.start(t);
  await gateway.withTenant("acme", "orders");
  assert.ok(blocks.length >= 5);
  await compiled;
  const variables = { CLAVIGER_ADDRESS: `http://${gateway.address}`, CLAVIGER_TOKEN_FILE: gateway.tokenFile, CLAVIGER_TENANT: "acme" };
  // No proxy of the environment sees a key, also where Node is told to use it.
  const proxy = { HTTP_PROXY: "http://127.0.0.1:1", http_proxy: "http://127.0.0.1:1", NODE_USE_ENV_PROXY: "1", NO_PROXY: "", no_proxy: "" };
  const output = await run(process.execPath, ["readme.js"], { cwd: folder, env: { ...process.env, ...variables, ...proxy } });
  assert.match(output, /documents/);
  assert.match(output, /key_disabled/);
  assert.match(output, /file_damaged/);
});
